"""Folds of a recipe: independent, repeatable, blind to what they hold out."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from voxelight.models.errors import BadInput
from voxelight.neuro.folds import find_pictures, plan_folds, reconstruct_fold, resize_pictures
from voxelight.neuro.splits import Leak, check_no_leak


def test_a_fold_holds_out_all_repeats_of_its_stimulus(make_subject, make_recipe):
    betas, _ = make_subject()
    folds = plan_folds(betas, make_recipe())
    assert len(folds) == 9
    for fold in folds:
        assert fold.stimulus_ids.tolist() == [fold.key]
        assert len(fold.test) == 3
        assert fold.key not in betas.stimulus_ids[fold.train]


@pytest.mark.parametrize("device_options", [{}, {"backend": "torch"}], ids=["numpy", "torch"])
def test_single_trials_at_one_alpha_give_what_scikit_learn_gives(make_subject, make_recipe, device_options):
    betas, stimuli = make_subject()
    recipe = make_recipe(repeats="single", decoder_options={"alphas": [7.0]} | device_options)
    for fold in plan_folds(betas, recipe):
        oracle = make_pipeline(StandardScaler(), Ridge(alpha=7.0))
        targets = find_pictures(stimuli, betas.stimulus_ids[fold.train]).reshape(len(fold.train), -1)
        oracle.fit(betas.values[fold.train].astype(float), targets.astype(float))
        expected = oracle.predict(betas.values[fold.test]).mean(0)
        found = reconstruct_fold(betas, stimuli, fold, recipe)
        np.testing.assert_allclose(found.predictions.ravel(), expected, atol=1e-5)
        assert found.alpha == 7.0


@pytest.mark.parametrize("unit", ["stimulus", "group", "run", "session"])
@pytest.mark.parametrize("repeats", ["averaged", "single"])
def test_every_unit_reconstructs_its_held_out_stimuli_in_the_order_of_the_plan(
    make_subject, make_recipe, unit, repeats
):
    betas, stimuli = make_subject(channels=3)
    recipe = make_recipe(unit=unit, repeats=repeats)
    for fold in plan_folds(betas, recipe):
        found = reconstruct_fold(betas, stimuli, fold, recipe)
        assert found.stimulus_ids.tolist() == fold.stimulus_ids.tolist()
        assert found.images.shape == found.predictions.shape == (len(fold.stimulus_ids), 4, 5, 3)
        assert found.images.dtype == np.float32
        assert found.images.min() >= 0
        assert found.images.max() <= 1


def test_folds_do_not_depend_on_each_other(make_subject, make_recipe):
    betas, stimuli = make_subject()
    recipe = make_recipe(n_folds=4, inner_folds=3)
    folds = plan_folds(betas, recipe)
    forwards = [reconstruct_fold(betas, stimuli, fold, recipe) for fold in folds]
    backwards = [reconstruct_fold(betas, stimuli, fold, recipe) for fold in plan_folds(betas, recipe)[::-1]][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert one.key == other.key
        assert one.weights_sha256 == other.weights_sha256
        assert one.predictions.tobytes() == other.predictions.tobytes()
    assert len({fold.weights_sha256 for fold in forwards}) == 4


def test_order_of_the_stimuli_does_not_matter(make_subject, make_recipe):
    betas, stimuli = make_subject()
    fold = plan_folds(betas, make_recipe())[2]
    turned = stimuli.select(stimuli.ids[::-1])
    one, other = (reconstruct_fold(betas, part, fold, make_recipe()) for part in (stimuli, turned))
    assert one.predictions.tobytes() == other.predictions.tobytes()


@pytest.mark.parametrize("normalisation", ["training-rows", "training-rows-per-session"])
def test_held_out_rows_do_not_reach_the_weights(make_subject, make_recipe, normalisation):
    betas, stimuli = make_subject()
    recipe = make_recipe(normalisation=normalisation)
    for fold in plan_folds(betas, recipe):
        check_no_leak(
            lambda given, fold=fold: reconstruct_fold(given, stimuli, fold, recipe).weights_sha256, betas, fold
        )


def test_held_out_pictures_do_not_reach_the_weights(make_subject, make_recipe):
    betas, stimuli = make_subject()
    recipe = make_recipe()
    for fold in plan_folds(betas, recipe):
        images = stimuli.images.copy()
        images[stimuli.ids == fold.key] = 0
        black = replace(stimuli, images=images)
        assert (
            reconstruct_fold(betas, black, fold, recipe).weights_sha256
            == reconstruct_fold(betas, stimuli, fold, recipe).weights_sha256
        )


def test_the_leak_of_the_transductive_normalisation_is_found(make_subject, make_recipe):
    betas, stimuli = make_subject()
    recipe = make_recipe(normalisation="own-session")
    fold = plan_folds(betas, recipe)[0]
    with pytest.raises(Leak):
        check_no_leak(lambda given: reconstruct_fold(given, stimuli, fold, recipe).weights_sha256, betas, fold)


def test_missing_picture_is_named(make_subject, make_recipe):
    betas, stimuli = make_subject()
    with pytest.raises(BadInput, match="picture-4"):
        reconstruct_fold(betas, stimuli.select(stimuli.ids[:4]), plan_folds(betas, make_recipe())[0], make_recipe())


def test_pictures_shrink_to_their_mean_colour_and_keep_their_shape(make_subject):
    _, stimuli = make_subject(channels=3)
    large = replace(stimuli, images=np.repeat(np.repeat(stimuli.images, 8, axis=1), 8, axis=2))
    small = resize_pictures(large, 5)
    assert small.images.shape == stimuli.images.shape
    np.testing.assert_allclose(small.images.mean((1, 2)), stimuli.images.mean((1, 2)), atol=0.05)
    assert resize_pictures(large, None) is large


def test_picture_side_of_the_recipe_is_that_of_the_reconstruction(make_subject, make_recipe):
    betas, stimuli = make_subject()
    recipe = make_recipe(picture_side=10)
    assert reconstruct_fold(betas, stimuli, plan_folds(betas, recipe)[0], recipe).images.shape == (1, 8, 10, 1)
