"""The recipe on real V1 responses: figures and letters that the decoder never saw."""

import numpy as np
import pytest

from voxelight.neuro.decode import decode
from voxelight.neuro.evaluate.intervals import draw_permutations
from voxelight.neuro.evaluate.null import permute_by_refitting, permute_fast
from voxelight.neuro.folds import plan_folds, reconstruct_fold
from voxelight.neuro.recipes import find_recipe
from voxelight.neuro.splits import check_no_leak


@pytest.fixture(scope="module")
def decoding(miyawaki):
    return decode(*miyawaki, "miyawaki-ridge")


def test_twenty_pictures_are_held_out_whole(miyawaki, decoding):
    betas, stimuli = miyawaki
    folds = plan_folds(betas, find_recipe("miyawaki-ridge"))
    assert len(folds) == len(stimuli.ids) == 20
    assert sum(len(fold.test) for fold in folds) == len(betas.values) == 119
    assert sorted(decoding.stimulus_ids.tolist()) == sorted(stimuli.ids.tolist())


def test_two_way_identification_is_far_above_its_null(decoding):
    metric = decoding.report.find("two_way")
    assert metric.value >= 0.93
    assert 0.40 <= metric.null_mean <= 0.48  # the training mean opposes the picture that is left out
    assert metric.p <= 0.01
    assert metric.low > metric.null_mean + 5 * metric.null_std
    assert metric.value > decoding.report.find("two_way.nearest_training").high


def test_pixel_correlation_is_far_above_its_null(decoding):
    metric = decoding.report.find("pixel_correlation")
    assert metric.value >= 0.8
    assert metric.p <= 0.01
    assert metric.low > metric.null_mean + 5 * metric.null_std


def test_report_warns_of_the_few_pictures(decoding):
    assert any("Only 20 distinct pictures" in note for note in decoding.report.notes)
    assert all("training-rows" in line for line in decoding.report.lines()[:6])


def test_held_out_rows_never_reach_the_weights(miyawaki):
    betas, stimuli = miyawaki
    recipe = find_recipe("miyawaki-ridge")
    for fold in plan_folds(betas, recipe)[::6]:
        check_no_leak(
            lambda given, fold=fold: reconstruct_fold(given, stimuli, fold, recipe).weights_sha256, betas, fold
        )


def test_fast_null_is_the_slow_one_on_real_betas(miyawaki):
    betas, stimuli = miyawaki
    recipe = find_recipe("miyawaki-ridge")
    permutations = draw_permutations(stimuli.ids, 3, seed=11)
    fast, slow = (permute(betas, stimuli, recipe, permutations) for permute in (permute_fast, permute_by_refitting))
    np.testing.assert_allclose(fast["two_way"], slow["two_way"], atol=1e-12)
    np.testing.assert_allclose(fast["pixel_correlation"], slow["pixel_correlation"], atol=1e-5)


def test_decoding_again_gives_the_same_bytes(miyawaki, decoding):
    betas, stimuli = miyawaki
    recipe = find_recipe("miyawaki-ridge")
    for fold, before in list(zip(plan_folds(betas, recipe), decoding.folds, strict=True))[::7]:
        again = reconstruct_fold(betas, stimuli, fold, recipe)
        assert again.weights_sha256 == before.weights_sha256
        assert again.predictions.tobytes() == before.predictions.tobytes()
