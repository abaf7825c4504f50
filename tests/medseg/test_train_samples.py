"""What a step of a training sees."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import make_case, make_recipe

from voxelight.medseg.augment import Chance, augment, reach_of
from voxelight.medseg.cases import Case
from voxelight.medseg.recipes.training import Augmentation
from voxelight.medseg.train_samples import Dealer, prepare_sample
from voxelight.models.errors import BadInput
from voxelight.models.training import processes
from voxelight.models.values import LabelMap

STILL = Augmentation(
    mirror=0, rotation=0, scale=(1, 1), stretch=0, shift=0, bend=0, contrast=0, brightness=0, gamma=0, bias=0, noise=0
)


def crops(options, window=(16, 16, 16), seed=0):
    case = make_case(0)
    images = torch.from_numpy(case.volume.array)[None].repeat(4, 1, 1, 1, 1)
    labels = F.one_hot(torch.from_numpy(case.labels.array).long(), 3).movedim(-1, 0)[None].repeat(4, 1, 1, 1, 1)
    return images, labels, augment(images, labels, window, options, Chance(torch.Generator().manual_seed(seed), 4))


def test_an_augmentation_of_no_strength_cuts_the_middle():
    images, labels, (x, reference) = crops(STILL)
    middle = (slice(None), slice(None), *[slice(1, 17)] * 3)
    torch.testing.assert_close(x, images[middle], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(reference, labels[middle].float())


@pytest.mark.parametrize("axes", [(0,), (1, 2)])
def test_a_mirror_turns_image_and_labels_alike(axes):
    images, labels, (x, reference) = crops(STILL.model_copy(update={"mirror": 1.0, "mirror_axes": axes}))
    middle = (slice(None), slice(None), *[slice(1, 17)] * 3)
    turned = [2 + axis for axis in axes]
    torch.testing.assert_close(x, images[middle].flip(turned), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(reference, labels[middle].flip(turned).float())


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
    still = Augmentation(mirror=0, rotation=0, shift=0, bend=0, scale=(1, 1))
    x, _ = augment(images, labels, (16, 16, 16), still, Chance(torch.Generator().manual_seed(0), 4))
    assert torch.isfinite(x).all()
    assert (x[..., 12:] == 0).all()
    assert (x[..., :7] != 0).all()


def test_a_slice_stays_a_slice():
    images, labels, _ = crops(STILL)
    images, labels = images[..., 8:9], labels[..., 8:9]
    chance = Chance(torch.Generator().manual_seed(0), 4)
    x, reference = augment(images, labels, (16, 16, 1), Augmentation(rotation=90, shift=0, noise=0), chance)
    assert x.shape == (4, 1, 16, 16, 1)
    assert reference[:, 1:].sum() > 0.5 * labels[:, 1:].sum(), "nothing was turned out of its plane"


def test_parts_of_a_batch_draw_what_the_whole_does():
    images, labels, (x, reference) = crops(Augmentation())
    for own in (slice(0, 2), slice(2, 4)):
        chance = Chance(torch.Generator().manual_seed(0), 4, own)
        part, labelled = augment(images[own], labels[own], (16, 16, 16), Augmentation(), chance)
        torch.testing.assert_close(part, x[own])
        assert torch.equal(labelled, reference[own])


def dealer(cases, device="cpu", **training):
    recipe = make_recipe(**training)
    return Dealer([prepare_sample(case, recipe) for case in cases], recipe, recipe.training, device)


def test_every_case_comes_equally_often_in_any_order_of_asking():
    deal = dealer([make_case(number) for number in range(3)])
    seen = Counter(row for number in reversed(range(6)) for row in deal._rows(number))
    assert seen == {0: 4, 1: 4, 2: 4}


def test_any_step_can_be_the_first():
    cases = [make_case(number, side=40) for number in range(3)]
    first, later = dealer(cases), dealer(cases)
    for number in range(5):
        expected = first.place(first.read(number), number)
    found = later.place(later.read(4), 4)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_crops_of_a_large_case_reach_its_borders_and_are_full_of_it():
    case = make_case(0, side=60)
    deal = dealer([case], window=(16, 16, 16), batch=64, foreground=0.0, augmentation=STILL)
    assert not deal._resident
    draws = np.random.default_rng(0).random((500, 6))
    centres = np.array([deal._choose(deal._samples[0], chance) for chance in draws])
    assert centres.min(axis=0).tolist() == [8, 8, 8]
    assert centres.max(axis=0).tolist() == [52, 52, 52]
    x, _ = deal.place(deal.read(0), 0)
    assert float((x == 0).float().mean()) == 0


def test_a_share_of_crops_is_centred_on_labels_each_as_often():
    case = make_case(0, side=60)
    deal = dealer([case], foreground=0.5)
    draws = np.random.default_rng(0).random((2000, 6))
    found = Counter(int(case.labels.array[tuple(deal._choose(deal._samples[0], chance))]) for chance in draws)
    assert found[1] == pytest.approx(500, abs=70)
    assert found[2] == pytest.approx(500, abs=70)


def test_cases_without_a_label_are_dealt_as_others_but_not_alone():
    case = make_case(1)
    empty = Case("empty", case.volume, LabelMap(case.labels.array * 0, case.labels.geometry, case.labels.names))
    deal = dealer([make_case(0), empty], foreground=1.0, augmentation=STILL, window=(8, 8, 8))
    for number in range(4):
        _, reference = deal.place(deal.read(number), number)
        for row, share in zip(deal._rows(number), reference, strict=True):
            assert bool(share[1:].any()) is (row == 0)
    with pytest.raises(BadInput, match=r"1 cases to train on without a voxel of any label.*1 \(anterior\)"):
        dealer([empty])


@pytest.mark.parametrize("window", [(24, 24, 24), (24, 24, 1)])
def test_a_case_smaller_than_a_window_lies_in_its_middle_and_nothing_is_made_up_around_it(window):
    case = make_case(0, side=12)
    flat = {"network": "segresnet", "config": {"spatial_dims": 2}} if window[2] == 1 else {}
    deal = dealer([case], augmentation=STILL, window=window, **flat)
    x, reference = deal.place(deal.read(0), 0)
    assert x.shape[2:] == window[: x.dim() - 2]
    inside = torch.zeros(x.shape[2:], dtype=torch.bool)
    inside[(slice(6, 18),) * inside.dim()] = True
    assert (x[..., ~inside] == 0).all()
    assert (reference[:, 0][:, ~inside] == 1).all(), "background"
    assert (x[..., inside] != 0).float().mean() > 0.99
    if window[2] > 1:
        expected = torch.from_numpy(case.labels.array)
        assert torch.equal(reference[0].argmax(0)[inside].reshape(12, 12, 12), expected.long())


def test_slices_of_a_volume_are_dealt_to_a_network_for_slices():
    deal = dealer([make_case(0, side=30)], network="segresnet", config={"spatial_dims": 2}, window=(16, 16, 1), batch=8)
    x, reference = deal.place(deal.read(0), 0)
    assert x.shape == (8, 1, 16, 16)
    assert reference.shape == (8, 3, 16, 16)


def test_a_window_is_read_from_far_enough_however_it_is_turned():
    assert reach_of((16, 16, 16), STILL) == (16, 16, 16)
    assert reach_of((16, 16, 1), STILL) == (16, 16, 1)
    turned = STILL.model_copy(update={"rotation": 45.0})
    assert reach_of((100, 100, 100), turned) == (142, 142, 142)
    assert reach_of((100, 100, 100), STILL.model_copy(update={"scale": (0.5, 2.0), "shift": 4.0})) == (208, 208, 208)


def test_processes_share_out_a_batch(monkeypatch):
    whole = dealer([make_case(number) for number in range(3)], batch=4)
    x, _ = whole.place(whole.read(1), 1)
    monkeypatch.setattr(processes, "count", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        part = dealer([make_case(number) for number in range(3)], batch=4)
        torch.testing.assert_close(part.place(part.read(1), 1)[0], x[2 * rank : 2 * rank + 2])
