"""Leaks are found, whichever part of a fit they are in; fits that keep to their rows pass."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from voxelight.neuro.evaluate.bottleneck import Components
from voxelight.neuro.evaluate.ceiling import choose_voxels
from voxelight.neuro.evaluate.leakage import check_apply, check_fit, check_recipe, fit_normalisation, fit_recipe
from voxelight.neuro.folds import plan_folds, reconstruct_fold
from voxelight.neuro.splits import Leak


@pytest.fixture
def table(make_subject):
    betas, stimuli = make_subject(n_stimuli=12)
    place = {name: row for row, name in enumerate(stimuli.ids)}
    targets = stimuli.images[[place[name] for name in betas.stimulus_ids]].reshape(len(betas.values), -1)
    return betas, targets.astype(np.float64)


@pytest.fixture
def fold(table, make_recipe):
    return plan_folds(table[0], make_recipe(n_folds=4))[1]


def choose(rows_of):
    """The parts of a decoder, each fitted on the rows that `rows_of` says: the training rows, or all."""

    def voxel_choice(betas, targets, train):
        rows = rows_of(betas, train)
        chosen = SelectKBest(f_regression, k=8).fit(betas.values[rows], targets[rows, 0]).get_support()
        return {"voxels": chosen, "fit": Ridge(1.0).fit(betas.values[train][:, chosen], targets[train]).coef_}

    def penalty(betas, targets, train):
        rows = rows_of(betas, train)
        alpha = RidgeCV(10.0 ** np.arange(-3, 9, 0.25)).fit(betas.values[rows], targets[rows]).alpha_
        return {"alpha": np.array(alpha)}

    return {
        "scaler": lambda betas, targets, train: StandardScaler().fit(betas.values[rows_of(betas, train)]).mean_,
        "components": lambda betas, targets, train: (
            PCA(5, svd_solver="full").fit(betas.values[rows_of(betas, train)]).components_
        ),
        "voxels": voxel_choice,
        "alpha": penalty,
        "token means": lambda betas, targets, train: targets[rows_of(betas, train)].mean(0),
    }


LEAKY = choose(lambda betas, train: np.arange(len(betas.values)))
CLEAN = choose(lambda betas, train: train)


def nothing(model, values):
    return np.zeros(1)


@pytest.mark.parametrize("part", LEAKY)
def test_a_part_that_is_fitted_on_all_rows_is_caught(part, table, fold):
    with pytest.raises(Leak, match="held-out rows"):
        check_fit(LEAKY[part], nothing, *table, fold)


@pytest.mark.parametrize("part", CLEAN)
def test_a_part_that_is_fitted_in_fold_passes(part, table, fold):
    assert len(check_fit(CLEAN[part], nothing, *table, fold)) == 64


@pytest.mark.parametrize("name", ["training-rows", "training-rows-per-session"])
def test_our_scalers_keep_to_the_fold(name, table, fold):
    assert check_fit(fit_normalisation(name), lambda made, _: made, *table, fold)


def test_the_transductive_scaler_is_caught(table, fold):
    with pytest.raises(Leak):
        check_fit(fit_normalisation("own-session"), lambda made, _: made, *table, fold)


def test_our_components_and_voxels_keep_to_the_fold(table, fold):
    def components(betas, _, train):
        return Components(betas.values[train]).axes

    def voxels(betas, _, train):
        return choose_voxels(betas, train, 10)

    assert check_fit(components, nothing, *table, fold)
    assert check_fit(voxels, nothing, *table, fold)


@pytest.mark.parametrize("repeats", ["averaged", "single"])
def test_a_recipe_keeps_to_the_fold_and_is_the_one_that_reconstructs(make_subject, make_recipe, repeats):
    betas, stimuli = make_subject(n_stimuli=12)
    recipe = make_recipe(n_folds=4, repeats=repeats)
    fold = plan_folds(betas, recipe)[2]
    assert [guard.status for guard in check_recipe(betas, stimuli, recipe, fold)] == ["held"] * 3
    place = {name: row for row, name in enumerate(stimuli.ids)}
    targets = stimuli.images[[place[name] for name in betas.stimulus_ids]].astype(np.float64)
    fitted = fit_recipe(recipe)(betas, targets, fold.train)
    assert fitted.weights_sha256 == reconstruct_fold(betas, stimuli, fold, recipe).weights_sha256


def test_a_recipe_that_says_so_is_declared(make_subject, make_recipe):
    betas, stimuli = make_subject(n_stimuli=12)
    recipe = make_recipe(n_folds=4, normalisation="own-session")
    guards = check_recipe(betas, stimuli, recipe, plan_folds(betas, recipe)[0])
    assert {guard.status for guard in guards} == {"declared"}
    assert "transductive" in guards[0].detail


def test_predictions_that_are_standardised_over_the_test_set_are_caught(table, fold):
    betas, targets = table
    ridge = Ridge(1.0).fit(betas.values[fold.train], targets[fold.train])

    def adjusted(model, values):
        predicted = model.predict(values)
        spread = predicted.std(0)
        return (predicted - predicted.mean(0)) / np.where(spread > 0, spread, 1) + targets[fold.train].mean(0)

    check_apply(lambda model, values: model.predict(values), ridge, betas.values[fold.test])
    with pytest.raises(Leak, match="alone and together"):
        check_apply(adjusted, ridge, betas.values[fold.test])
