"""Tests of two runs, false discoveries, distance, bottleneck, ceilings and controls beside outside ways to get them."""

import numpy as np
import pytest
import scipy.stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, ClipTokens
from voxelight.neuro.evaluate.bottleneck import sweep_bottleneck
from voxelight.neuro.evaluate.ceiling import choose_voxels, correct_length, find_ceiling, find_reliability
from voxelight.neuro.evaluate.compare import adjust_p, align_pictures, compare_paired, find_distance, score_by_distance
from voxelight.neuro.evaluate.controls import (
    constant_caption,
    derange,
    draw_exchanges,
    draw_null,
    find_exchange,
    most_frequent_caption,
    pick_nearest,
    shuffle_betas,
)
from voxelight.neuro.evaluate.intervals import bootstrap_mean, permutation_p
from voxelight.neuro.evaluate.similarity import correlate, own_correlation, two_way


def names(count):
    return np.array([f"p{number}" for number in range(count)])


def test_adjusted_p_values_are_scipys():
    p = np.random.default_rng(0).uniform(size=40) ** 3
    np.testing.assert_allclose(adjust_p(p), scipy.stats.false_discovery_control(p))
    assert adjust_p(np.array([0.02])).tolist() == [0.02]
    with pytest.raises(BadInput):
        adjust_p(np.array([0.5, np.nan]))


def test_false_discoveries_stay_below_the_rate():
    random = np.random.default_rng(1)
    shares = []
    for _ in range(300):
        effect = np.repeat([3.0, 0.0], [10, 40])
        q = adjust_p(scipy.stats.norm.sf(random.normal(size=50) + effect))
        found = q <= 0.1
        shares.append((found & (effect == 0)).sum() / max(1, found.sum()))
    assert np.mean(shares) == pytest.approx(0.1 * 40 / 50, abs=0.02)  # what Benjamini and Hochberg prove, m0/m times a


def test_a_paired_test_is_wilcoxons_and_knows_that_the_pictures_are_the_same():
    random = np.random.default_rng(2)
    hard = random.normal(size=60)
    first, second = hard + 0.1 + 0.1 * random.normal(size=60), hard + 0.1 * random.normal(size=60)
    found = compare_paired("two_way", first, second, names(60))
    assert found.p == scipy.stats.wilcoxon(first, second).pvalue
    expected = scipy.stats.bootstrap((first, second), lambda a, b, axis: (a - b).mean(axis), paired=True, rng=0)
    paired = (first - second).std(ddof=1)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.2 * paired / 60**0.5)
    assert found.low > 0  # though the means differ by a tenth of what scores of single pictures spread
    assert compare_paired("m", first, first, names(60)).p == 1


def test_runs_on_other_pictures_are_not_compared():
    assert align_pictures(names(5), names(5)[::-1]).tolist() == [4, 3, 2, 1, 0]
    with pytest.raises(BadInput, match="p5"):
        align_pictures(names(5), names(6))
    with pytest.raises(BadInput, match="twice"):
        align_pictures(names(2), np.array(["p0", "p1", "p1"]))
    with pytest.raises(BadInput):
        compare_paired("m", np.zeros(4), np.zeros(4), names(4))


def test_resampling_gallery_and_predictions_together_pairs_pictures_with_themselves():
    """With both drawn again, a distractor is often the very picture that was seen, which ties with itself."""
    random = np.random.default_rng(3)
    pictures = random.normal(size=(40, 30))
    correlations = correlate(pictures + 0.1 * random.normal(size=(40, 30)), pictures)
    own = np.arange(40)
    scores = two_way(correlations, own)
    assert scores.mean() == 1
    fixed = [scores[random.integers(40, size=40)].mean() for _ in range(200)]
    both = [two_way(correlations[np.ix_(rows, rows)], own).mean() for rows in random.integers(40, size=(200, 40))]
    assert np.mean(fixed) == 1
    # A picture meets itself among 39 distractors with probability 1/40 each; each meeting is a tie and counts half.
    assert np.mean(both) == pytest.approx(1 - 0.5 / 40, abs=0.002)
    low, high = bootstrap_mean(scores, own.astype(str), 500, 0)
    assert (low, high) == (1, 1)


def test_the_null_is_exchanged_within_session_and_need_not_be_half():
    ids = names(30)
    sessions = np.repeat(["a", "b", "c"], 10)
    exchange = find_exchange(np.tile(ids, 2), np.tile(sessions, 2), ids)
    assert exchange.within == "session"
    draws = draw_exchanges(exchange, 200, 0)
    assert (sessions[draws] == sessions).all()
    assert (np.sort(draws, axis=1) == np.arange(30)).all()
    # Pictures of a session resemble each other, and so do predictions: a drift that the decoder follows.
    random = np.random.default_rng(4)
    drift = 2 * random.normal(size=(3, 50))[np.repeat([0, 1, 2], 10)]
    pictures, predicted = random.normal(size=(30, 50)) + drift, random.normal(size=(30, 50)) + drift
    correlations = correlate(predicted, pictures)
    null = draw_null(lambda own: two_way(correlations, own), draws)
    assert null.mean() > 0.75
    p = permutation_p(two_way(correlations, np.arange(30)).mean(), null)
    assert p > 0.05  # the drift alone is no decoding
    free = draw_null(lambda own: two_way(correlations, own), np.array([random.permutation(30) for _ in range(200)]))
    assert permutation_p(two_way(correlations, np.arange(30)).mean(), free) < 0.01  # which a free null would call so


def test_repeats_over_sessions_are_exchanged_as_wholes():
    ids = names(12)
    random = np.random.default_rng(5)
    trials = np.tile(ids, 3)
    spread = np.array([f"s{random.integers(10)}" for _ in trials])
    exchange = find_exchange(trials, spread, ids)
    assert exchange.within == "first session"
    with pytest.raises(BadInput, match="exchanged"):
        draw_exchanges(find_exchange(ids, ids, ids), 5, 0)
    with pytest.raises(BadInput, match="p3"):
        find_exchange(ids[:3], ids[:3], ids)


def test_p_is_uniform_where_nothing_is_decoded():
    random = np.random.default_rng(6)
    p = []
    for _ in range(200):
        correlations = random.normal(size=(8, 8))
        orders = np.array([random.permutation(8) for _ in range(99)])
        null = draw_null(lambda own, table=correlations: own_correlation(table, own), orders)
        p.append(permutation_p(own_correlation(correlations, np.arange(8)).mean(), null))
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01
    assert min(p) >= 1 / 100


def test_shuffled_betas_never_keep_their_name(make_subject):
    betas, _ = make_subject()
    shuffled = shuffle_betas(betas, seed=3)
    assert not (shuffled.stimulus_ids == betas.stimulus_ids).any()
    assert sorted(shuffled.stimulus_ids) == sorted(betas.stimulus_ids)
    for name in set(betas.stimulus_ids):  # all trials of a stimulus go together
        assert len(set(shuffled.stimulus_ids[betas.stimulus_ids == name])) == 1
    assert not (derange(50, 0) == np.arange(50)).any()


def test_the_nearest_training_picture_is_the_closest_by_tokens():
    random = np.random.default_rng(7)
    train, predicted = random.normal(size=(9, 4, 6)), random.normal(size=(5, 4, 6))
    expected = scipy.spatial.distance.cdist(predicted.reshape(5, -1), train.reshape(9, -1), "cosine")
    queries, gallery = ClipTokens(predicted, "s"), ClipTokens(train, "s")
    assert pick_nearest(queries, gallery).tolist() == expected.argmin(1).tolist()
    np.testing.assert_allclose(find_distance(queries, gallery), expected.min(1), atol=1e-6)


def test_constant_captions_come_from_training():
    captions = ["a man on a horse", "a dog", "a dog", "a cat", "a cat"]
    assert most_frequent_caption(captions) == "a cat"
    assert constant_caption(captions, lambda caption: len(caption)) == "a man on a horse"
    with pytest.raises(BadInput):
        most_frequent_caption([])


def test_scores_fall_with_the_distance_where_they_do():
    random = np.random.default_rng(8)
    distance = random.uniform(size=200)
    curve = score_by_distance(1 - distance + 0.05 * random.normal(size=200), distance)
    assert curve.n.tolist() == [40] * 5
    assert (np.diff(curve.y) < 0).all()
    assert ((curve.low < curve.y) & (curve.y < curve.high)).all()
    assert (curve.x > np.array([0, 0.1, 0.3, 0.5, 0.7])).all()
    with pytest.raises(BadInput):
        score_by_distance(distance[:9], distance[:9])


def test_the_bottleneck_is_scikit_learns_and_rises_with_what_is_coded():
    random = np.random.default_rng(9)
    latent = random.normal(size=(120, 4))
    betas = latent @ random.normal(size=(4, 30)) + 0.1 * random.normal(size=(120, 30))
    folds = [(betas[:80], betas[80:]), (betas[40:], betas[:40])]
    targets = [latent[:80], latent[40:]]
    truth = np.concatenate([latent[80:], latent[:40]])

    def decode(number, train, test):
        return LinearRegression().fit(train, targets[number]).predict(test)

    def score(predicted):
        return -((predicted - truth) ** 2).mean(1)

    curve = sweep_bottleneck(folds, [1, 2, 4, 8, 500], decode, score, names(80))
    assert curve.x.tolist() == [1, 2, 4, 8]
    for k, found in zip([1, 2, 4, 8], curve.y, strict=True):
        made = []
        for (train, test), own in zip(folds, targets, strict=True):
            pca = PCA(k, svd_solver="full").fit(train)
            made.append(LinearRegression().fit(pca.transform(train), own).predict(pca.transform(test)))
        assert found == pytest.approx(score(np.concatenate(made)).mean(), rel=1e-9)
    assert (np.diff(curve.y[:3]) > 0).all()
    assert curve.y[3] == pytest.approx(curve.y[2], abs=0.02)


def simulate(signal, n_stimuli, repeats, seed=0):
    random = np.random.default_rng(seed)
    shown = np.tile(np.arange(n_stimuli), repeats)
    code = random.normal(size=(n_stimuli, len(signal))) * signal
    values = code[shown] + random.normal(size=(len(shown), len(signal)))
    return Betas(values.astype(np.float32), names(n_stimuli)[shown], "01", "V1"), code


def test_the_ceiling_is_what_the_simulation_put_in():
    signal = np.array([0.0, 0.3, 0.5, 1.0, 2.0])
    betas, code = simulate(signal, 30000, 3)
    ceiling = find_ceiling(betas)
    np.testing.assert_allclose(ceiling.ncsnr[1:], signal[1:], atol=0.03)
    assert ceiling.ncsnr[0] < 0.2  # a square root of a variance that is zero but for its error
    np.testing.assert_allclose(ceiling.explainable, signal**2 / (signal**2 + 1 / 3), atol=0.03)
    assert ceiling.repeats == pytest.approx(3)
    # The perfect model, which knows the code, correlates with the averages as far as the ceiling says.
    average = betas.values.reshape(3, 30000, -1).mean(0)
    reached = [np.corrcoef(average[:, voxel], code[:, voxel])[0, 1] for voxel in range(1, 5)]
    np.testing.assert_allclose(reached, ceiling.correlation[1:], atol=0.03)
    assert "never selection" in ceiling.use


def test_the_ceiling_is_the_reliability_of_averages():
    """Spearman-Brown from one repeat to three gives what the variances give: two ways to one number."""
    betas, _ = simulate(np.array([0.4, 0.8, 1.5]), 6000, 3, seed=1)
    trials = betas.values.reshape(3, 6000, 3)
    single = np.array([np.corrcoef(trials[0, :, voxel], trials[1, :, voxel])[0, 1] for voxel in range(3)])
    np.testing.assert_allclose(correct_length(single, 3), find_ceiling(betas).explainable, atol=0.03)
    halves = find_reliability(trials[0], trials[1])
    np.testing.assert_allclose(halves, 2 * single / (1 + single), atol=1e-6)


def test_a_ceiling_takes_repeats():
    betas, _ = simulate(np.ones(3), 20, 1)
    with pytest.raises(BadInput, match="repeats"):
        find_ceiling(betas)


def test_voxels_are_chosen_by_training_rows_alone():
    betas, _ = simulate(np.linspace(0, 2, 20), 100, 3)
    train = np.flatnonzero(np.char.replace(betas.stimulus_ids, "p", "").astype(int) < 60)
    chosen = choose_voxels(betas, train, 5)
    assert chosen.min() >= 13
    noisy = betas.values.copy()
    noisy[np.setdiff1d(np.arange(300), train)] = 0
    assert (choose_voxels(Betas(noisy, betas.stimulus_ids, "01", "V1"), train, 5) == chosen).all()
