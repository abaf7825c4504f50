"""Voxels by region and by training reliability."""

from dataclasses import replace

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.neuro.betas import select_rows
from voxelight.neuro.decode import decode
from voxelight.neuro.evaluate.ceiling import find_ceiling
from voxelight.neuro.folds import plan_folds, reconstruct_fold
from voxelight.neuro.roi import choose_reliable, intersect_regions, join_regions, keep_voxels
from voxelight.neuro.splits import check_no_leak


@pytest.fixture
def half_noise(make_subject):
    """Twenty voxels that answer and twenty that don't, mixed."""
    betas, stimuli = make_subject(n_stimuli=12, repeats=4, n_voxels=40, noise=0.3)
    order = np.random.default_rng(3).permutation(40)
    values = betas.values.copy()
    values[:, order[20:]] = np.random.default_rng(4).normal(size=(len(values), 20))
    return replace(betas, values=values), stimuli, np.sort(order[:20])


def test_reliable_voxels_are_those_that_answer(half_noise):
    betas, _, answering = half_noise
    choice = choose_reliable(betas, np.arange(len(betas.values)), count=20)
    np.testing.assert_array_equal(choice.places, answering)
    by_threshold = choose_reliable(betas, np.arange(len(betas.values)), ncsnr=1.0)
    np.testing.assert_array_equal(by_threshold.places, answering)


def test_held_out_trials_choose_nothing(half_noise):
    betas, _, _ = half_noise
    held_out = betas.stimulus_ids == betas.stimulus_ids[0]
    train = np.flatnonzero(~held_out)
    values = betas.values.copy()
    values[held_out] = np.random.default_rng(0).normal(9, 5, values[held_out].shape)
    before, after = (choose_reliable(each, train, count=13) for each in (betas, replace(betas, values=values)))
    np.testing.assert_array_equal(before.places, after.places)
    np.testing.assert_array_equal(before.ncsnr, find_ceiling(select_rows(betas, train)).ncsnr)


def test_a_recipe_chooses_in_every_fold_and_leaks_nothing(half_noise, make_recipe):
    betas, stimuli, _ = half_noise
    recipe = make_recipe(voxels=20)
    for fold in plan_folds(betas, recipe)[::4]:
        check_no_leak(
            lambda given, fold=fold: reconstruct_fold(given, stimuli, fold, recipe).weights_sha256, betas, fold
        )
    chosen = decode(betas, stimuli, recipe).report.find("two_way")
    assert chosen.low > chosen.null_mean + 3 * chosen.null_std


def test_regions_are_joined_and_intersected():
    first, second = np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
    first[0], second[:, 1] = True, True
    assert join_regions([first, second]).sum() == 12 + 8 - 4
    np.testing.assert_array_equal(intersect_regions([first, second]), first & second)
    with pytest.raises(BadInput, match="without a common voxel"):
        intersect_regions([first, ~first])
    with pytest.raises(BadInput, match="one or more on one grid"):
        join_regions([first, first[:, :2]])


def test_unclear_choices_are_refused(half_noise):
    betas, _, _ = half_noise
    rows = np.arange(len(betas.values))
    with pytest.raises(BadInput, match="Give one of both"):
        choose_reliable(betas, rows)
    with pytest.raises(BadInput, match="Give one of both"):
        choose_reliable(betas, rows, count=3, ncsnr=0.2)
    with pytest.raises(BadInput, match="no voxel with an ncsnr of 900"):
        choose_reliable(betas, rows, ncsnr=900)
    with pytest.raises(BadInput, match="stimuli with repeats"):
        choose_reliable(betas, rows[:12], count=3)
    with pytest.raises(BadInput, match="columns to keep"):
        keep_voxels(betas, np.array([40]))
    assert keep_voxels(betas, np.array([3, 1]), "chosen").roi == "chosen"
