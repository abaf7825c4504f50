"""What the audit of a cDAL says of networks that are known to look at the noisy label, and of one that is not."""

import numpy as np
import pytest
import torch

from voxelight.medseg.audit import CONDITIONS, audit, audit_segmenter
from voxelight.medseg.cases import Case
from voxelight.medseg.predict import Segmenter
from voxelight.medseg.recipes import find_recipe
from voxelight.models.errors import BadInput
from voxelight.models.segmentation.cdal import CDALConfig
from voxelight.models.values import Geometry, LabelMap, Volume

SMALL = {"width": 8, "multipliers": (1, 2), "encoder_blocks": 1, "latent": 6, "embedding": 8, "votes": 2, "steps": 4}


class OfImage(torch.nn.Module):
    """A generator that reads the label off the image and does not look at the noisy one."""

    def encode(self, image):
        return image

    def forward(self, x, t, z, condition):
        return condition.clamp(-1, 1)


class OfState(OfImage):
    """A generator that goes by the noisy label it is shown at the last step, row by row, and by the image before."""

    def forward(self, x, t, z, condition):
        rows = x.mean(dim=-1, keepdim=True).sign().expand_as(x)
        return torch.where(t[:, None, None, None] > 0, condition, rows)


def draw_images():
    rng = np.random.default_rng(0)
    references = []
    for _ in range(5):
        reference = np.zeros((12, 12), dtype=int)
        start = rng.integers(0, 8)
        reference[start : start + 4] = 1
        references.append(reference)
    return [torch.from_numpy(2.0 * reference[None] - 1).float() for reference in references], references


def run(generator):
    network = CDALConfig(**SMALL).build().eval()
    network.generator = generator
    images, references = draw_images()
    return audit(network, images, references, {f"image {n}": f"person {n}" for n in range(5)}, at_once=3)


def test_a_generator_that_ignores_the_noisy_label_loses_nothing():
    found = run(OfImage())
    assert set(found.dice) == set(CONDITIONS)
    assert all(score == 1 for rows in found.dice.values() for score in rows.values())
    assert all(gain.low == gain.high == 0 for gain in found.gains.values())


def test_a_generator_that_goes_by_the_noisy_label_is_found_out():
    found = run(OfState())
    assert found.means["full"].estimate > 0.8
    assert found.gains["random-yt"].low > 0.3
    assert found.gains["shuffle-yt"].low > 0.1
    assert found.means["core-no-diff"].estimate == 1, "one pass at the first step sees the image"


def test_a_real_network_is_audited_and_the_same_twice():
    torch.manual_seed(0)
    network = CDALConfig(**SMALL, classes=3).build().eval()
    images, references = draw_images()
    persons = {f"image {n}": f"person {n // 2}" for n in range(5)}
    one, other = (audit(network, images, references, persons, seed=3, at_once=2) for _ in range(2))
    assert one == other


def test_shuffling_takes_two():
    network = CDALConfig(**SMALL).build().eval()
    images, references = draw_images()
    with pytest.raises(BadInput, match="1 images"):
        audit(network, images[:1], references[:1], {"one": "one"})


def make_segmenter(generator=None):
    recipe = find_recipe("hippocampus-cdal")
    recipe = recipe.model_copy(update={"config": SMALL, "labels": {1: "row"}, "spacing_mm": (1.0, 1.0, 1.0)})
    network = CDALConfig(**SMALL).build().eval()
    if generator is not None:
        network.generator = generator
    return Segmenter(recipe, (network,), "cpu")


def make_volume(name, side=12, depth=6):
    """Two labelled slices among others; the image shows the label, brighter than zero only there."""
    labels = np.zeros((side, side, depth), np.uint8)
    for number, start in ((1, 2), (3, 6)):
        labels[start : start + 4, :, number : number + 1] = 1
    grid = Geometry(labels.shape, np.eye(4))
    image = Volume((20.0 * labels - 1)[None].astype(np.float32), grid)
    return Case(name, image, LabelMap(labels, grid, {1: "row"}))


def test_the_labelled_slices_of_volumes_are_audited_on_the_grid_of_the_network():
    """Volumes of two sizes; a slice that is alone in its size has no other to be shuffled with, and is left out."""
    alone = make_volume("alone", side=10, depth=2)
    cases = [make_volume("a"), make_volume("b", side=16), alone]
    found = audit_segmenter(cases, make_segmenter(OfImage()))
    names = [f"{case} slice {number}" for case in "ab" for number in (1, 3)]
    assert list(found.dice["full"]) == names
    for condition in CONDITIONS:
        assert set(found.dice[condition].values()) == {1.0}, "it reads the label off the image"
    assert found.means["full"].persons == 2
    told = audit_segmenter(cases, make_segmenter(OfState()))
    assert told.gains["random-yt"].low > 0


def test_what_draws_no_label_can_not_be_audited():
    segmenter = make_segmenter()
    two = Segmenter(segmenter.recipe, segmenter.networks * 2, "cpu")
    other = Segmenter(segmenter.recipe, (torch.nn.Identity(),), "cpu")
    for wrong in (two, other):
        with pytest.raises(BadInput, match="one network cdal"):
            audit_segmenter([make_volume("a")], wrong)
    with pytest.raises(BadInput, match="two or more"):
        audit_segmenter([], segmenter)
