"""What is promised is kept on held-out simulated trials, where the truth is known."""

import numpy as np
import pytest
import scipy.stats
from sklearn.linear_model import LinearRegression

from voxelight.models.decoders.ridge import RidgeConfig
from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.agreement import (
    agree_captions,
    agree_pictures,
    fit_agreement,
    fit_pixel_scale,
    map_deviation,
    share_words,
)
from voxelight.neuro.evaluate.best_of import Signal, choose_best, fit_encoder, refuse_shared
from voxelight.neuro.evaluate.uncertainty import (
    check_top_k,
    find_coverage,
    fit_retrieval_uncertainty,
    fit_token_uncertainty,
)
from voxelight.neuro.splits import Leak


@pytest.mark.parametrize("draw", ["normal", "standard_t", "laplace"])
def test_conformal_intervals_of_tokens_cover_what_they_promise_whatever_the_noise(draw):
    random = np.random.default_rng(0)
    scale = np.exp(random.normal(size=(3, 5)))
    make = {
        "normal": lambda n: random.normal(size=(n, 3, 5)),
        "standard_t": lambda n: random.standard_t(3, size=(n, 3, 5)),
        "laplace": lambda n: random.laplace(size=(n, 3, 5)),
    }[draw]
    shares = []
    for _ in range(40):
        half = fit_token_uncertainty(scale * make(99)).half_width(0.9)
        shares.append((np.abs(scale * make(200)) <= half).mean((0,)))
    # Coverage of split conformal with 99 calibration trials is Beta(90, 10), whose mean is .9 to the digit.
    shares = np.array(shares).ravel()
    expected = scipy.stats.betabinom(200, 90, 10)
    assert shares.mean() == pytest.approx(0.9, abs=4 * expected.std() / 200 / len(shares) ** 0.5)
    assert shares.std() == pytest.approx(expected.std() / 200, rel=0.15)


def test_gaussian_intervals_are_those_of_the_known_deviation():
    random = np.random.default_rng(1)
    deviation = np.array([[0.5, 1.0, 4.0]])
    uncertainty = fit_token_uncertainty(deviation * random.normal(size=(4000, 1, 3)))
    half = uncertainty.half_width(0.9, "gaussian")
    np.testing.assert_allclose(half, scipy.stats.norm.ppf(0.95) * deviation, rtol=0.04)
    coverage = find_coverage("tokens", 0.9, np.abs(deviation * random.normal(size=(500, 1, 3))) <= half, 2 * half)
    assert coverage.low <= 0.9 <= coverage.high
    assert coverage.holds
    assert coverage.size == pytest.approx(2 * half.mean())


def test_what_is_too_narrow_does_not_hold():
    random = np.random.default_rng(2)
    inside = np.abs(random.normal(size=(400, 4))) <= 1
    coverage = find_coverage("tokens", 0.9, inside, np.array([2.0]))
    assert coverage.share == pytest.approx(0.683, abs=0.03)
    assert not coverage.holds


def test_errors_in_one_item_are_not_independent_and_widen_the_interval():
    random = np.random.default_rng(3)
    apart = np.abs(random.normal(size=(100, 50))) <= 1.6449
    together = np.repeat(np.abs(random.normal(size=(100, 1))) <= 1.6449, 50, axis=1)
    wide, narrow = (find_coverage("tokens", 0.9, inside, np.ones(1)) for inside in (together, apart))
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


def test_no_promise_without_trials():
    with pytest.raises(BadInput, match=r"0\.9"):
        fit_token_uncertainty(np.ones((8, 1, 1))).half_width(0.9)
    assert fit_token_uncertainty(np.ones((9, 1, 1))).half_width(0.9) == 1
    with pytest.raises(BadInput):
        fit_token_uncertainty(np.ones((9, 1, 1))).half_width(0.9, "hopeful")


@pytest.fixture
def likelihoods():
    """Log-likelihoods of a Gaussian observer among 60 pictures, whose softmax is the posterior, and what was seen."""

    def make(trials, noise=3.0, seed=0):
        random = np.random.default_rng(seed)
        gallery = np.random.default_rng(99).normal(size=(60, 20))
        own = random.integers(60, size=trials)
        seen = gallery[own] + noise * random.normal(size=(trials, 20))
        return -((seen[:, None] - gallery) ** 2).sum(2) / (2 * noise**2), own

    return make


def test_the_temperature_of_a_true_likelihood_is_found(likelihoods):
    similarity, own = likelihoods(4000)
    assert fit_retrieval_uncertainty(similarity, own).temperature == pytest.approx(1, rel=0.05)
    scaled = fit_retrieval_uncertainty(7 * similarity, own)
    assert scaled.temperature == pytest.approx(7, rel=0.05)
    np.testing.assert_allclose(scaled.probabilities(similarity).sum(1), 1)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_calibrated_probabilities_are_kept_on_new_trials(likelihoods, k):
    uncertainty = fit_retrieval_uncertainty(*likelihoods(2000, seed=1))
    coverage = check_top_k(uncertainty, *likelihoods(3000, seed=2), k)
    assert coverage.low <= coverage.nominal <= coverage.high


def test_uncalibrated_cosines_promise_too_little(likelihoods):
    similarity, own = likelihoods(3000, seed=3)
    naive = fit_retrieval_uncertainty(similarity, own)
    cold = type(naive)(20.0, 0.0, naive.scores)  # as a softmax of raw cosines at temperature 1 is: nearly flat
    assert not check_top_k(cold, similarity, own, 5).low <= check_top_k(cold, similarity, own, 5).nominal


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("distort", [1.0, 3.0])
def test_sets_of_pictures_cover_even_where_the_softmax_is_wrong(likelihoods, level, distort):
    def bend(similarity):
        return np.sign(similarity) * np.abs(similarity) ** distort

    (similarity, own), (new, seen) = likelihoods(1000, seed=4), likelihoods(1000, seed=5)
    sets = fit_retrieval_uncertainty(bend(similarity), own).find_sets(bend(new), level)
    share = sets[np.arange(1000), seen].mean()
    # Never less than promised but for the sampling error of both halves; more where the first picture is enough.
    assert share >= level - 4 * (2 * level * (1 - level) / 1000) ** 0.5
    if distort == 1.0 and level == 0.9:
        assert share == pytest.approx(level, abs=0.06)
        assert sets.sum(1).mean() < 45
    assert (sets.sum(1) >= 1).all()


def make_samples(trials, seed, seeds=5):
    """Pictures whose samples differ as much as they miss: the generator knows what it does not know."""
    random = np.random.default_rng(seed)
    spread = random.uniform(0.2, 2, size=(trials, 1, 1, 1, 1))
    truth = random.normal(size=(trials, 1, 6, 6, 1))
    centre = truth + spread * random.normal(size=(trials, 1, 6, 6, 1))
    return centre + spread * random.normal(size=(trials, seeds, 6, 6, 1)), truth[:, 0]


def test_agreement_across_seeds_is_worth_what_it_was_on_held_out_trials():
    def measure(seed):
        samples, truth = make_samples(300, seed)
        flat, own = samples.mean(1).reshape(300, -1), truth.reshape(300, -1)
        return agree_pictures(samples), np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(flat, own, strict=True)])

    agreement, scores = measure(0)
    assert scipy.stats.spearmanr(agreement, scores).statistic > 0.7
    scale = fit_agreement(agreement, scores)
    new, true = measure(1)
    low, high = scale.interval(new, 0.9)
    coverage = find_coverage("pictures", 0.9, (low <= true) & (true <= high), high - low)
    assert coverage.share == pytest.approx(0.9, abs=0.07)
    blind = np.quantile(np.abs(scores - scores.mean()), 0.9)  # without looking at the agreement
    assert coverage.size < 1.5 * blind
    assert scale.slope > 0


def test_the_line_of_agreement_is_least_squares():
    random = np.random.default_rng(5)
    agreement = random.uniform(size=400)
    scores = 0.2 + 0.5 * agreement + 0.01 * random.normal(size=400)
    scale = fit_agreement(agreement, scores)
    expected = LinearRegression().fit(agreement[:, None], scores)
    assert scale.slope == pytest.approx(expected.coef_[0], abs=0.01)
    assert scale.expect(np.array([0.5])) == pytest.approx(expected.predict([[0.5]]), abs=0.005)
    with pytest.raises(BadInput):
        fit_agreement(agreement[:19], scores[:19])


def test_widened_deviations_hold_new_pixels():
    scale = fit_pixel_scale(*make_samples(200, 0))
    samples, truth = make_samples(200, 1)
    low, high = scale.interval(samples)
    coverage = find_coverage("pixels", 0.9, (low <= truth) & (truth <= high), high - low)
    assert coverage.share == pytest.approx(0.9, abs=0.02)
    assert scale.factor > 1.7  # five seeds share what they all miss, so their own deviation is too small


def test_maps_show_where_seeds_differ():
    samples = np.zeros((1, 4, 3, 3, 3))
    samples[0, :, 1, 2] = np.array([0, 1, 0, 1])[:, None]
    expected = np.zeros((1, 3, 3))
    expected[0, 1, 2] = np.std([0, 1, 0, 1], ddof=1)
    np.testing.assert_allclose(map_deviation(samples), expected)
    with pytest.raises(BadInput, match="seeds"):
        map_deviation(samples[:, :1])


def test_captions_agree_by_their_words():
    assert share_words("A photo of a dog", "a photo of a cat") == pytest.approx(3 / 5)
    found = agree_captions([["a dog", "a dog"], ["a dog", "a cat", "the sea"]], share_words)
    np.testing.assert_allclose(found, [1, (1 / 3 + 0 + 0) / 3])
    with pytest.raises(BadInput):
        agree_captions([["alone"]], share_words)


def signals():
    trials = np.array([f"t{number}" for number in range(240)])
    stimuli = np.array([f"p{number}" for number in range(240)])
    decoder = Signal(np.arange(30), trials[:100], stimuli[:100])
    encoder = Signal(np.arange(30, 60), trials[100:200], stimuli[100:200])
    return decoder, encoder, Signal(np.arange(30, 60), trials[200:], stimuli[200:])


def test_shared_voxels_or_trials_are_refused():
    decoder, encoder, new = signals()
    refuse_shared(decoder, encoder, new)
    with pytest.raises(Leak, match="voxels of decoder and encoder: 29"):
        refuse_shared(decoder, Signal(np.arange(29, 60), encoder.trials, encoder.stimuli), new)
    with pytest.raises(Leak, match="trials of decoder and encoder: t99"):
        refuse_shared(decoder, Signal(encoder.voxels, np.append(encoder.trials, "t99"), encoder.stimuli), new)
    with pytest.raises(Leak, match="trials of the decoder"):
        refuse_shared(decoder, encoder, Signal(new.voxels, np.append(new.trials, "t5"), new.stimuli))
    with pytest.raises(Leak, match="stimuli of the encoder"):
        refuse_shared(decoder, encoder, Signal(new.voxels, new.trials, np.append(new.stimuli, "p150")))
    with pytest.raises(BadInput, match="without an encoder"):
        refuse_shared(decoder, encoder, Signal(np.arange(30, 61), new.trials, new.stimuli))


def test_a_brain_encoder_picks_better_samples_than_chance():
    random = np.random.default_rng(6)
    decoder, encoder, new = signals()
    latent = random.normal(size=(240, 8))
    code = random.normal(size=(8, 60))
    betas = latent @ code + random.normal(size=(240, 60))
    ridge = fit_encoder(
        latent[100:200],
        betas[100:200][:, encoder.voxels],
        [(np.arange(50), np.arange(50, 100)), (np.arange(50, 100), np.arange(50))],
        RidgeConfig(),
    )
    samples = latent[200:, None] + 1.5 * random.normal(size=(40, 6, 8))
    predicted = ridge(samples.reshape(240, 8)).reshape(40, 6, 30)
    best = choose_best(predicted, betas[200:][:, encoder.voxels], decoder, encoder, new)
    errors = ((samples - latent[200:, None]) ** 2).sum(2)
    chosen = errors[np.arange(40), best.samples]
    assert scipy.stats.wilcoxon(chosen, errors.mean(1), alternative="less").pvalue < 1e-4
    expected = [np.corrcoef(predicted[3, k], betas[203, encoder.voxels])[0, 1] for k in range(6)]
    np.testing.assert_allclose(best.agreement[3], expected)
    assert "Best of 6 samples" in best.signal
    assert "30 voxels" in best.signal
    with pytest.raises(BadInput):
        choose_best(predicted[..., :5], betas[200:][:, encoder.voxels], decoder, encoder, new)
