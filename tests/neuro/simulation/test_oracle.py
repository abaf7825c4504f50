"""The best decoder of a linear-Gaussian subject against brute force, and against decoders that must not beat it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.linear_model import Ridge

from voxelight.models.errors import BadInput
from voxelight.neuro.betas import average_repeats, normalise
from voxelight.neuro.simulation import (
    LinearGaussian,
    NoiseOptions,
    SubjectOptions,
    TrialNoise,
    find_trial_noise,
    fraction_of_oracle,
    identify,
    log_likelihood,
    make_oracle,
    make_subject,
    posterior_mean,
    response_likelihood,
    tokens_by_id,
)


@pytest.fixture
def model():
    return draw_model(voxels=7, features=4, seed=0)


@pytest.fixture(params=[(7, 4), (4, 7)], ids=["more voxels", "more features"])
def either(request):
    return draw_model(*request.param, seed=0)


def draw_model(voxels: int, features: int, seed: int) -> LinearGaussian:
    random = np.random.default_rng(seed)
    root = random.normal(size=(features, features))
    return LinearGaussian(
        weights=random.normal(size=(voxels, features)),
        intercept=random.normal(size=voxels),
        variance=random.uniform(0.5, 2, voxels),
        loadings=random.normal(size=(voxels, 2)),
        mean=random.normal(size=features),
        covariance=root @ root.T,
    )


def noise_covariance(model: LinearGaussian) -> np.ndarray:
    return np.diag(model.variance) + model.loadings @ model.loadings.T


def draw(model: LinearGaussian, items: int, seed: int, repeats: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Features and betas of the model, trial by trial and then averaged."""
    random = np.random.default_rng(seed)
    features = random.multivariate_normal(model.mean, model.covariance, items)
    noise = random.multivariate_normal(np.zeros(len(model.variance)), noise_covariance(model), (items, repeats)).mean(1)
    return features, features @ model.weights.T + model.intercept + noise


@pytest.mark.parametrize("repeats", [1, 3])
def test_likelihood_is_that_of_scipy(model, repeats):
    _, betas = draw(model, 5, 1)
    candidates = np.random.default_rng(2).normal(size=(6, 4))
    found = log_likelihood(model, betas, candidates, repeats)
    for column, candidate in enumerate(candidates):
        law = multivariate_normal(model.weights @ candidate + model.intercept, noise_covariance(model) / repeats)
        np.testing.assert_allclose(found[:, column], law.logpdf(betas), rtol=1e-9)


@pytest.mark.parametrize("repeats", [1, 3])
def test_posterior_mean_is_that_of_bayes(either, repeats):
    """By conditioning the joint Gaussian, and by prior times likelihood with scipy's densities."""
    model = either
    _, betas = draw(model, 5, 1)
    found = posterior_mean(model, betas, repeats)
    crossed = model.covariance @ model.weights.T
    spread = model.weights @ crossed + noise_covariance(model) / repeats
    gain = crossed @ np.linalg.inv(spread)
    expected = model.mean + (betas - model.weights @ model.mean - model.intercept) @ gain.T
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    left = model.covariance - gain @ crossed.T
    points = np.random.default_rng(3).multivariate_normal(model.mean, model.covariance, 8)
    posterior = multivariate_normal(found[0], (left + left.T) / 2).logpdf(points)
    prior = multivariate_normal(model.mean, model.covariance).logpdf(points)
    likelihood = log_likelihood(model, betas[:1], points, repeats)[0]
    constant = posterior - prior - likelihood
    np.testing.assert_allclose(constant, constant[0], rtol=1e-6)


def test_averages_of_trials_are_worth_all_trials(model):
    """The mean of n trials tells what n trials tell one by one."""
    random = np.random.default_rng(4)
    candidate = random.normal(size=(1, 4))
    trials = random.multivariate_normal(np.zeros(7), noise_covariance(model), 3) + candidate @ model.weights.T
    others = random.normal(size=(6, 4))
    together = log_likelihood(model, trials, others).sum(0)
    averaged = log_likelihood(model, trials.mean(0, keepdims=True), others, repeats=3)[0]
    np.testing.assert_allclose(together - together[0], averaged - averaged[0], rtol=1e-8)


def test_a_prior_without_spread_in_a_direction_is_allowed(model):
    flat = replace(model, covariance=np.diag([1.0, 1.0, 0.0, 0.0]))
    found = posterior_mean(flat, draw(model, 5, 1)[1])
    np.testing.assert_allclose(found[:, 2:], np.broadcast_to(model.mean[2:], (5, 2)))


def test_nothing_beats_it_and_ridge_with_many_trials_comes_close():
    model = draw_model(voxels=30, features=10, seed=5)
    features, betas = draw(model, 4000, 6)
    errors = ((posterior_mean(model, betas) - features) ** 2).mean(1)
    scores = {}
    for trials in (40, 400, 40_000):
        known, seen = draw(model, trials, 7)
        for alpha in (1e-3, 1.0, 30.0, 1000.0):
            guess = Ridge(alpha).fit(seen, known).predict(betas)
            worse = ((guess - features) ** 2).mean(1) - errors
            assert worse.mean() > -4 * worse.std() / np.sqrt(len(worse)), (trials, alpha)
            scores[trials, alpha] = 1 + worse.mean() / errors.mean()
    best = {trials: min(scores[key] for key in scores if key[0] == trials) for trials in (40, 400, 40_000)}
    assert best[40] > 1.2
    assert best[40] > best[400] > best[40_000]
    assert best[40_000] < 1.01


def test_no_rule_identifies_more_often():
    model = draw_model(voxels=20, features=8, seed=8)
    model = replace(model, variance=60 * model.variance)
    gallery, betas = draw(model, 300, 9)
    shown = np.arange(300)
    best = identify(log_likelihood(model, betas, gallery), shown)
    expected = gallery @ model.weights.T + model.intercept
    rules = {
        "correlation of betas": np.corrcoef(betas, expected)[:300, 300:],
        "distance of betas": -((betas[:, None] - expected) ** 2).sum(2),
        "distance of posterior means": -((posterior_mean(model, betas)[:, None] - gallery) ** 2).sum(2),
    }
    for name, scores in rules.items():
        found = identify(scores, shown)
        assert found["top_1"] <= best["top_1"] + 0.03, name
        assert found["two_way"] <= best["two_way"] + 0.01, name
    assert 0.05 < best["top_1"] < 0.95


def test_identification_counts_ties_as_half():
    scores = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [5.0, 4.0, 0.0]])
    assert identify(scores, np.array([0, 1, 2])) == {"top_1": 1 / 3, "two_way": pytest.approx((1 + 0.75 + 0) / 3)}


def test_fraction_runs_from_the_null_to_the_oracle():
    assert fraction_of_oracle(0.5, 0.5, 0.9) == 0
    assert fraction_of_oracle(0.9, 0.5, 0.9) == 1
    assert fraction_of_oracle(0.8, 0.5, 0.9) == pytest.approx(0.75)
    with pytest.raises(BadInput, match="above the null"):
        fraction_of_oracle(0.8, 0.9, 0.9)


def test_the_oracle_of_a_subject_is_its_generator(photographs, plan, tokens, matched):
    subject, betas = matched
    flat = tokens.values.reshape(len(tokens.values), -1).astype(np.float64)
    model = make_oracle(subject, flat)
    stimuli = photographs.read(np.arange(len(photographs.ids)))
    clean = subject.respond(stimuli)
    np.testing.assert_allclose(flat @ model.weights.T + model.intercept, clean, atol=1e-4)
    noise = betas.values - clean[plan.pictures]
    np.testing.assert_allclose(np.diag(noise_covariance(model)), subject.noise_std**2, rtol=1e-6)
    found, expected = np.cov(noise.T), noise_covariance(model)
    assert np.abs(found - expected).max() < 5 * np.sqrt(2 / len(noise))
    whitened = noise @ np.linalg.inv(np.linalg.cholesky(expected)).T
    assert whitened.var() == pytest.approx(1, abs=0.02)


def test_a_decoder_of_a_matched_subject_as_a_fraction_of_the_oracle(photographs, tokens, matched):
    subject, betas = matched
    flat = tokens.values.reshape(len(tokens.values), -1).astype(np.float64)
    place = {name: row for row, name in enumerate(photographs.ids.tolist())}
    averaged = average_repeats(betas)
    rows = np.array([place[name] for name in averaged.stimulus_ids.tolist()])
    test = averaged.labels["shared"] == "1"
    model = make_oracle(subject, flat)
    gallery, shown = flat[rows[test]], np.arange(100)
    oracle = identify(log_likelihood(model, averaged.values[test], gallery, repeats=3), shown)["two_way"]
    ridge = Ridge(10).fit(averaged.values[~test], flat[rows[~test]])
    near = -((ridge.predict(averaged.values[test])[:, None] - gallery) ** 2).sum(2)
    share = fraction_of_oracle(identify(near, shown)["two_way"], 0.5, oracle)
    assert 0.5 < share < 1
    error = ((posterior_mean(model, averaged.values[test], 3) - gallery) ** 2).mean()
    assert error < ((ridge.predict(averaged.values[test]) - gallery) ** 2).mean()


def test_true_responses_identify_pictures_of_a_mismatched_subject(photographs, simulated):
    """Identification needs no linear generator: the true responses and the true noise are enough."""
    subject, betas = simulated
    averaged = average_repeats(normalise(betas, np.arange(len(betas.values)), "own-session"))
    place = {name: row for row, name in enumerate(photographs.ids.tolist())}
    seen = photographs.read(np.array([place[name] for name in averaged.stimulus_ids.tolist()]))
    responses, shown, whole = subject.respond(seen), np.arange(400), find_trial_noise(subject)
    found = {}
    for step in (1, 10):  # all voxels, and every tenth
        noise = TrialNoise(whole.variance[::step], whole.loadings[::step])
        values, expected = averaged.values[:, ::step], responses[:, ::step]
        best = identify(response_likelihood(noise, values, expected, repeats=3), shown)
        near = identify(np.corrcoef(values, expected)[:400, 400:], shown)
        assert best["top_1"] >= near["top_1"]
        assert best["two_way"] >= near["two_way"]
        found[step] = best["top_1"] - near["top_1"], best["top_1"]
    assert found[1][1] > 0.97
    assert found[10][0] > 0.05


def test_only_linear_gaussian_subjects_have_one(photographs, tokens, simulated):
    flat = tokens.values.reshape(len(tokens.values), -1)
    with pytest.raises(BadInput, match="mismatched subject 1"):
        make_oracle(simulated[0], flat)
    options = SubjectOptions(kind="matched", voxels=10, noise=NoiseOptions())
    drifting = make_subject(1, photographs, options, tokens_by_id(tokens, photographs.ids))
    with pytest.raises(BadInput, match="without drift"):
        make_oracle(drifting, flat)


def test_parts_that_do_not_fit_are_refused(model):
    for change in ({"intercept": np.zeros(3)}, {"covariance": np.eye(3)}):
        with pytest.raises(BadInput, match="one variance a voxel"):
            replace(model, **change)
    with pytest.raises(BadInput, match="0 variances above zero"):
        replace(model, variance=np.zeros(7))
