"""The ridge decoder beside scikit-learn and scipy."""

import numpy as np
import pytest
import scipy.linalg
from pydantic import ValidationError
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict

from voxelight.models.decoders.ridge import RidgeConfig, RidgeDecoder, fit_ridge
from voxelight.models.decoders.ridge_solver import smoothers
from voxelight.models.errors import BadInput
from voxelight.models.registry import DECODERS, find_config

SHAPES = {"fewer trials than voxels": (30, 80), "more trials than voxels": (90, 25), "square": (40, 40)}
ALPHAS = (0.3, 3.0, 30.0, 300.0, 3000.0)


def make_problem(n_trials, n_voxels, noise=2.0, seed=0, target_shape=(3, 4)):
    random = np.random.default_rng(seed)
    betas = random.normal(loc=1.5, size=(n_trials, n_voxels))
    weights = random.normal(size=(n_voxels, int(np.prod(target_shape))))
    targets = betas @ weights + noise * np.sqrt(n_voxels) * random.normal(size=(n_trials, weights.shape[1])) + 7
    return betas, targets.reshape(n_trials, *target_shape), random.normal(loc=1.5, size=(11, n_voxels))


def make_folds(n_trials, n_folds=5):
    return list(KFold(n_folds).split(np.zeros(n_trials)))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_one_alpha_predicts_what_scikit_learn_predicts(shape, backend):
    betas, targets, new = make_problem(*shape)
    decoder = RidgeConfig(alphas=(5.0,), backend=backend).fit(betas, targets)
    oracle = Ridge(alpha=5.0).fit(betas, targets.reshape(len(targets), -1))
    assert decoder(new).shape == (11, 3, 4)
    np.testing.assert_allclose(decoder(new).reshape(11, -1), oracle.predict(new), rtol=1e-9)
    np.testing.assert_allclose(decoder.intercept, oracle.intercept_, rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_coefficients_solve_the_normal_equations(shape):
    betas, targets, _ = make_problem(*shape)
    centred, flat = betas - betas.mean(0), targets.reshape(len(targets), -1)
    expected = scipy.linalg.solve(
        centred.T @ centred + 2.5 * np.eye(betas.shape[1]), centred.T @ (flat - flat.mean(0)), assume_a="pos"
    )
    decoder = RidgeConfig(alphas=(2.5,)).fit(betas, targets)
    np.testing.assert_allclose(decoder.coefficients, expected, rtol=1e-8, atol=1e-10)


def cross_validated_errors(betas, flat, folds):
    predicted = (cross_val_predict(Ridge(alpha=alpha), betas, flat, cv=folds) for alpha in ALPHAS)
    return np.stack([((flat - held_out) ** 2).sum(0) for held_out in predicted])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_alpha_is_the_one_that_scikit_learn_finds_on_the_same_folds(shape, backend):
    betas, targets, _ = make_problem(*shape)
    folds = make_folds(len(betas))
    errors = cross_validated_errors(betas, targets.reshape(len(targets), -1), folds)
    shared = RidgeConfig(alphas=ALPHAS, backend=backend).fit(betas, targets, folds)
    own = RidgeConfig(alphas=ALPHAS, alpha_per_target=True, backend=backend).fit(betas, targets, folds)
    assert shared.alpha == ALPHAS[errors.sum(1).argmin()]
    np.testing.assert_array_equal(own.alphas, np.take(ALPHAS, errors.argmin(0)))


def test_alphas_of_their_own_equal_one_fit_per_target():
    betas, targets, new = make_problem(60, 30, target_shape=(1, 6))
    targets[:, 0, 3:] = np.random.default_rng(1).normal(size=(60, 3))  # nothing to find: these want a large alpha
    folds = make_folds(60)
    decoder = RidgeConfig(alphas=ALPHAS, alpha_per_target=True).fit(betas, targets, folds)
    assert len(set(decoder.alphas)) > 1
    for column, alpha in enumerate(decoder.alphas):
        oracle = Ridge(alpha=alpha).fit(betas, targets[:, 0, column])
        np.testing.assert_allclose(decoder(new)[:, 0, column], oracle.predict(new), rtol=1e-8)


def test_numpy_and_torch_agree():
    betas, targets, new = make_problem(50, 120)
    folds = make_folds(50)
    numpy_decoder, torch_decoder = (
        RidgeConfig(alphas=ALPHAS, backend=backend).fit(betas, targets, folds) for backend in ("numpy", "torch")
    )
    assert numpy_decoder.alpha == torch_decoder.alpha
    np.testing.assert_allclose(numpy_decoder(new), torch_decoder(new), rtol=1e-9)


def test_spaces_fitted_together_equal_spaces_fitted_alone():
    betas, tokens, new = make_problem(60, 25)
    pooled = np.random.default_rng(3).normal(size=(60, 1, 5))
    folds, config = make_folds(60), RidgeConfig(alphas=ALPHAS)
    together = fit_ridge(betas, {"tokens": tokens, "pooled": pooled}, config, folds)
    assert together["tokens"].alpha < together["pooled"].alpha
    for name, targets in {"tokens": tokens, "pooled": pooled}.items():
        alone = config.fit(betas, targets, folds)
        assert together[name].alpha == alone.alpha
        np.testing.assert_allclose(together[name](new), alone(new), rtol=1e-9, atol=1e-12)


def test_many_targets_are_scored_in_pieces_without_a_seam(monkeypatch):
    betas, targets, _ = make_problem(40, 20)
    config, folds = RidgeConfig(alphas=ALPHAS, alpha_per_target=True), make_folds(40)
    whole = config.fit(betas, targets, folds)
    monkeypatch.setattr("voxelight.models.decoders.ridge_solver._COLUMNS_AT_ONCE", 5)
    np.testing.assert_array_equal(config.fit(betas, targets, folds).alphas, whole.alphas)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_smoothers_carry_any_targets_to_the_predictions(shape):
    betas, targets, new = make_problem(*shape)
    matrices = smoothers(betas, new, ALPHAS)
    np.testing.assert_allclose(matrices.sum(2), 1, rtol=1e-9)
    for matrix, alpha in zip(matrices, ALPHAS, strict=True):
        expected = RidgeConfig(alphas=(alpha,)).fit(betas, targets)(new)
        np.testing.assert_allclose(np.einsum("ij,jtd->itd", matrix, targets), expected, rtol=1e-7)


def test_state_round_trip_keeps_the_map_and_its_hash():
    betas, targets, new = make_problem(30, 12)
    decoder = RidgeConfig(alphas=(1.0,)).fit(betas, targets)
    again = RidgeDecoder.from_state(decoder.state)
    np.testing.assert_array_equal(again(new), decoder(new))
    assert (
        again.weights_sha256 == decoder.weights_sha256 == RidgeConfig(alphas=(1.0,)).fit(betas, targets).weights_sha256
    )
    assert RidgeConfig(alphas=(1.1,)).fit(betas, targets).weights_sha256 != decoder.weights_sha256


@pytest.mark.parametrize(
    ("betas", "targets", "config"),
    [
        (np.ones((4, 2)), np.ones((5, 1, 1)), RidgeConfig(alphas=(1.0,))),
        (np.ones(4), np.ones((4, 1, 1)), RidgeConfig(alphas=(1.0,))),
        (np.full((4, 2), np.nan), np.ones((4, 1, 1)), RidgeConfig(alphas=(1.0,))),
        (np.ones((4, 2)), np.full((4, 1, 1), np.inf), RidgeConfig(alphas=(1.0,))),
        (np.ones((4, 2)), np.ones((4, 1, 1)), RidgeConfig(alphas=(1.0, 2.0))),
    ],
    ids=["trials differ", "no voxel axis", "nan betas", "infinite targets", "alphas without folds"],
)
def test_fit_refuses_what_it_cannot_use(betas, targets, config):
    with pytest.raises(BadInput):
        config.fit(betas, targets)


def test_numpy_refuses_to_run_on_a_gpu():
    with pytest.raises(BadInput, match="Set the backend to torch"):
        RidgeConfig(alphas=(1.0,), backend="numpy").fit(np.ones((4, 2)), np.ones((4, 1)), device="cuda:0")


def test_decoder_refuses_betas_of_another_mask():
    betas, targets, new = make_problem(30, 12)
    with pytest.raises(BadInput, match=r"expected \(trial, 12\)"):
        RidgeConfig(alphas=(1.0,)).fit(betas, targets)(new[:, :-1])


@pytest.mark.parametrize("options", [{"alphas": ()}, {"alphas": (0.0,)}, {"alpha": 1.0}])
def test_config_refuses_unusable_options(options):
    with pytest.raises(ValidationError):
        RidgeConfig(**options)


def test_table_names_the_ridge_decoder():
    assert find_config(DECODERS, "ridge") is RidgeConfig
