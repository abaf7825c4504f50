import numpy as np
import pytest
import torch
from torch.nn import functional as F

from voxelight.medseg.augment import augment
from voxelight.medseg.cases import Case
from voxelight.medseg.evaluate import dice
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.recipes.recipe import Augmentation
from voxelight.medseg.segment import build_segmenter, segment
from voxelight.medseg.train import fit
from voxelight.models.errors import BadInput
from voxelight.models.registry import SEGMENTERS
from voxelight.models.values import Geometry, LabelMap, Volume

STILL = Augmentation(
    mirror=0, rotation=0, scale=(1, 1), stretch=0, shift=0, bend=0, contrast=0, brightness=0, gamma=0, bias=0, noise=0
)


def small_recipe(network="agunet", **training):
    recipe = find_recipe("hippocampus-agunet")
    options = {"steps": 60, "batch": 2, "window": (16, 16, 16), "warm_up": 5, "settling": 8, "average": 0.9} | training
    return recipe.model_copy(
        update={
            "network": network,
            "config": {"in_channels": 1, "classes": 3, "filters": (8, 16)},
            "patch": (24, 24, 24),
            "training": recipe.training.model_copy(update=options),
        }
    )


def ball_case(number):
    """Two bright half balls on a dark, noisy ground."""
    random = np.random.default_rng(number)
    at = np.stack(np.meshgrid(*[np.arange(18)] * 3, indexing="ij")) - random.uniform(7, 10, 3)[:, None, None, None]
    ball = np.square(at).sum(axis=0) < 25
    labels = (ball * np.where(at[1] > 0, 1, 2)).astype(np.uint8)
    image = (labels * 2 + 0.3 * random.standard_normal(labels.shape)).astype(np.float32)
    grid = Geometry(labels.shape, np.eye(4))
    return Case(f"ball{number}", Volume(image[None], grid), LabelMap(labels, grid, {1: "anterior", 2: "posterior"}))


@pytest.mark.parametrize("network", SEGMENTERS)
def test_a_network_of_the_table_learns_from_few_cases(network):
    recipe, told = small_recipe(network), []
    state = fit([ball_case(number) for number in range(6)], recipe, "cpu", lambda share, values: told.append(share))
    unseen = ball_case(99)
    found = segment(unseen.volume, build_segmenter(recipe, state, "cpu")).array
    assert min(dice(found, unseen.labels.array, label) for label in (1, 2)) > 0.5
    assert told[-1] == 1
    assert told == sorted(told)


def test_same_seed_same_weights_and_the_callers_chance_untouched():
    recipe, cases = small_recipe(steps=3, settling=2), [ball_case(0), ball_case(1)]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = fit(cases, recipe, "cpu")
    torch.testing.assert_close(torch.rand(3), expected)
    again = fit(cases, recipe, "cpu")
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    other = fit(cases, recipe.model_copy(update={"seed": 1}), "cpu")
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("recipe", "cases", "said"),
    [
        (small_recipe(), [], "no case"),
        (small_recipe(loss="focal"), [ball_case(0)], "dice_ce"),
        (find_recipe("hippocampus-mni"), [ball_case(0)], "Train hippocampus-agunet"),
    ],
)
def test_what_cannot_be_trained_is_refused(recipe, cases, said):
    with pytest.raises(BadInput, match=said):
        fit(cases, recipe, "cpu")


def test_a_case_keeps_image_and_labels_on_one_grid():
    case = ball_case(0)
    moved = Geometry(case.labels.geometry.shape, np.diag([1, 1, 2, 1.0]))
    with pytest.raises(BadInput, match="nearest neighbour"):
        Case("moved", case.volume, LabelMap(case.labels.array, moved, case.labels.names))


def crops(options, window=(16, 16, 16), seed=0):
    case = ball_case(0)
    images = torch.from_numpy(case.volume.array)[None].repeat(4, 1, 1, 1, 1)
    labels = F.one_hot(torch.from_numpy(case.labels.array).long(), 3).movedim(-1, 0)[None].repeat(4, 1, 1, 1, 1)
    return images, labels, augment(images, labels, window, options, torch.Generator().manual_seed(seed))


def test_an_augmentation_of_no_strength_cuts_the_middle():
    images, labels, (x, reference) = crops(STILL)
    middle = (slice(None), slice(None), *[slice(1, 17)] * 3)
    torch.testing.assert_close(x, images[middle], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(reference, labels[middle].float())


def test_a_mirror_turns_image_and_labels_alike():
    images, labels, (x, reference) = crops(STILL.model_copy(update={"mirror": 1.0}))
    middle = (slice(None), slice(None), *[slice(1, 17)] * 3)
    torch.testing.assert_close(x, images[middle].flip(2), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(reference, labels[middle].flip(2).float())


def test_labels_stay_with_their_voxels_and_the_same_seed_repeats():
    _, _, (x, reference) = crops(Augmentation(noise=0, contrast=0, brightness=0, gamma=0, bias=0))
    assert torch.equal(reference.sum(dim=1), torch.ones_like(reference[:, 0]))
    means = [float(x[:, 0][reference[:, label] == 1].mean()) for label in range(3)]
    assert means == sorted(means)
    assert not torch.equal(x[0], x[1])
    assert torch.equal(crops(Augmentation(), seed=3)[2][0], crops(Augmentation(), seed=3)[2][0])


def test_nothing_is_made_up_beyond_a_volume():
    images, labels, _ = crops(STILL)
    images[:, :, :, :, 10:] = torch.nan
    x, _ = augment(images, labels, (16, 16, 16), Augmentation(mirror=0, rotation=0, shift=0, bend=0, scale=(1, 1)),
                   torch.Generator().manual_seed(0))  # fmt: skip
    assert torch.isfinite(x).all()
    assert (x[..., 12:] == 0).all()
    assert (x[..., :7] != 0).all()
