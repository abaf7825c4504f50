"""Banded ridge beside scipy and himalaya; himalaya as a backend beside our own solver."""

import numpy as np
import pytest
import scipy.linalg
from himalaya.ridge import solve_group_ridge_random_search
from himalaya.scoring import l2_neg_loss
from sklearn.model_selection import KFold

from voxelight.models.decoders.ridge import RidgeConfig
from voxelight.models.decoders.ridge_banded import BandedConfig, fit_banded
from voxelight.models.errors import BadInput

ALPHAS = (1.0, 10.0, 100.0, 1000.0)
FOLDS = list(KFold(4).split(np.zeros((80, 1))))


@pytest.fixture(scope="module")
def problem():
    """Forty voxels, of which the first ten know the targets."""
    random = np.random.default_rng(0)
    betas = random.normal(loc=0.5, size=(80, 40))
    targets = betas[:, :10] @ random.normal(size=(10, 6)) + 3 * random.normal(size=(80, 6)) + 5
    return betas, targets, np.array(["V1"] * 10 + ["rest"] * 30), random.normal(size=(7, 40))


def test_a_banded_ridge_solves_its_equations_and_trusts_the_band_that_knows(problem):
    betas, targets, bands, new = problem
    fit = fit_banded(betas, {"all": targets.reshape(80, 2, 3)}, bands, BandedConfig(alphas=ALPHAS), FOLDS)
    weights, decoder = fit.weights["all"], fit.decoders["all"]
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["V1"] > 0.8
    gamma = np.array([weights[name] for name in bands])
    centred = betas - betas.mean(0)
    solved = scipy.linalg.solve(
        centred.T @ centred + np.diag(decoder.alpha / gamma), centred.T @ (targets - targets.mean(0))
    )
    np.testing.assert_allclose(decoder.coefficients, solved, rtol=1e-6, atol=1e-9)
    expected = (new - betas.mean(0)) @ solved + targets.mean(0)
    np.testing.assert_allclose(decoder(new).reshape(7, 6), expected, rtol=1e-8)
    plain = RidgeConfig(alphas=ALPHAS).fit(betas, targets, FOLDS)
    assert fit.errors["all"].min() < fit.errors["all"][0].min()  # the first draw is a plain ridge
    assert plain.alpha in ALPHAS


def test_the_search_errs_as_himalayas_does_on_the_same_draws(problem):
    betas, targets, bands, _ = problem
    config = BandedConfig(alphas=ALPHAS, draws=6)
    fit = fit_banded(betas, {"all": targets}, bands, config, FOLDS)
    names = np.unique(bands)
    groups = [betas[:, bands == name] for name in names]

    class Given:
        def split(self, *_):
            return FOLDS

        def get_n_splits(self, *_):
            return len(FOLDS)

    for number, gamma in enumerate(config.draw(2)):
        _, _, scores, _ = solve_group_ridge_random_search(
            groups, targets, n_iter=gamma[None], alphas=np.array(ALPHAS), fit_intercept=True, cv=Given(),
            score_func=l2_neg_loss, local_alpha=False, progress_bar=False,
        )  # fmt: skip
        ours = fit.errors["all"][number].min() / targets.size
        assert ours == pytest.approx(-float(np.mean(scores)), rel=1e-6)  # folds are of one size


@pytest.mark.parametrize("per_target", [False, True])
def test_himalaya_as_a_backend_chooses_and_predicts_the_same(problem, per_target):
    betas, targets, _, new = problem
    targets = targets.copy()
    targets[:, 4:] = np.random.default_rng(1).normal(size=(80, 2))
    ours, theirs = (
        RidgeConfig(alphas=ALPHAS, alpha_per_target=per_target, backend=backend).fit(betas, targets, FOLDS)
        for backend in ("numpy", "himalaya")
    )
    np.testing.assert_array_equal(ours.alphas, theirs.alphas)
    np.testing.assert_allclose(ours(new), theirs(new), rtol=1e-6)
    one = [RidgeConfig(alphas=(7.0,), backend=name).fit(betas, targets)(new) for name in ("numpy", "himalaya")]
    np.testing.assert_allclose(one[0], one[1], rtol=1e-7)


def test_what_the_options_refuse(problem):
    betas, targets, bands, _ = problem
    with pytest.raises(BadInput, match="rescaling"):
        RidgeConfig(alphas=ALPHAS, backend="himalaya", rescale=True).fit(betas, targets, FOLDS)
    for wrong, folds in ((bands[:-1], FOLDS), (np.full(40, "V1"), FOLDS), (bands, [])):
        with pytest.raises(BadInput, match="bands"):
            fit_banded(betas, {"all": targets}, wrong, BandedConfig(alphas=ALPHAS), folds)
