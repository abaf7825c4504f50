"""Identification against the published formula in numpy, scipy and scikit-learn, and against random draws."""

import numpy as np
import pytest
from scipy.spatial.distance import correlation
from scipy.stats import rankdata
from sklearn.metrics import top_k_accuracy_score

from voxelight.models.errors import BadInput
from voxelight.models.values import ClipTokens
from voxelight.neuro.evaluate.intervals import bootstrap_mean
from voxelight.neuro.evaluate.metrics.features import Features, load_extractor
from voxelight.neuro.evaluate.metrics.identification import (
    DISTANCE,
    TWO_WAY,
    correlate_features,
    expect_hits,
    find_ranks,
    median_rank,
    score_distance,
    score_tokens,
    score_two_way,
    share_in_top,
)
from voxelight.neuro.evaluate.metrics.networks import NETWORKS
from voxelight.neuro.evaluate.metrics.result import Conditions, MetricResult, order_results
from voxelight.neuro.evaluate.metrics.table import METRICS
from voxelight.neuro.retrieve import find_cosine, score_retrieval

SPACE = "ViT-L-14/openai/last"


def make_features(n, noise=0.0, dims=300, seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, dims)) + 3 * random.normal(size=dims)
    values = values + noise * np.random.default_rng(seed + 1).normal(size=values.shape)
    return Features(values.astype(np.float32), Conditions("none", "a network", "a layer"))


def make_tokens(n, noise=0.0):
    random = np.random.default_rng(0)
    values = random.normal(size=(n, 4, 6)) + noise * np.random.default_rng(1).normal(size=(n, 4, 6))
    return ClipTokens(values, SPACE)


def published_two_way(seen, reconstructed):
    """As section 6 of the specification words it."""
    n = len(seen)
    r = np.corrcoef(seen.astype(np.float64), reconstructed.astype(np.float64))[:n, n:]
    below = [sum(r[i, j] < r[j, j] for i in range(n) if i != j) for j in range(n)]
    return np.array(below) / (n - 1)


def test_two_way_identification_is_the_published_formula():
    seen, reconstructed = make_features(40), make_features(40, noise=8)
    found = score_two_way("inception_two_way", reconstructed, seen)
    assert np.array_equal(found.scores, published_two_way(seen.values, reconstructed.values))
    assert 0.5 < found.value < 1
    assert (found.chance, found.conditions.gallery, found.higher_is_better) == (0.5, 40, True)


def test_noise_is_identified_by_chance():
    found = score_two_way("inception_two_way", make_features(300, seed=7), make_features(300))
    low, high = bootstrap_mean(found.scores, np.arange(300).astype(str), 500, 0)
    assert low < 0.5 < high


def test_a_score_of_a_picture_does_not_depend_on_the_other_reconstructions():
    seen, reconstructed = make_features(30), make_features(30, noise=3)
    own = np.array([4, 4, 21])
    some = Features(reconstructed.values[own], reconstructed.conditions)
    whole = score_two_way("clip_two_way", reconstructed, seen).scores
    assert np.array_equal(score_two_way("clip_two_way", some, seen, own).scores, whole[own])


def test_ties_count_as_misses():
    values = np.eye(6, dtype=np.float32)
    values[5] = values[4]
    seen = Features(values, Conditions("none"))
    assert score_two_way("clip_two_way", seen, seen).scores[[0, 4, 5]].tolist() == [1, 0.8, 0.8]


def test_features_are_correlated_in_blocks_as_at_once():
    first, second = make_features(300).values[:, :20], make_features(280, noise=1).values[:, :20]
    assert np.allclose(correlate_features(first, second), np.corrcoef(first, second)[:300, 300:], atol=1e-6)


def test_distance_is_that_of_scipy():
    seen, reconstructed = make_features(10), make_features(10, noise=1)
    found = score_distance("effnet_distance", reconstructed, seen)
    expected = [correlation(*pair) for pair in zip(seen.values, reconstructed.values, strict=True)]
    assert np.allclose(found.scores, expected, atol=1e-6)
    assert not found.higher_is_better


def test_the_default_network_tells_photographs_apart_and_prefers_the_less_distorted(small_photographs):
    lite = load_extractor()
    pictures = small_photographs[:10]
    noise = np.random.default_rng(0).normal(size=pictures.shape)
    seen = lite.extract(pictures)["pooled"]
    scores = {}
    for strength in (0.1, 0.6):
        degraded = np.clip(pictures + strength * noise, 0, 1).astype(np.float32)
        features = lite.extract(degraded)["pooled"]
        scores[strength] = (
            score_two_way("lite_two_way", features, seen),
            score_distance("lite_distance", features, seen),
        )
    assert scores[0.1][0].value > 0.95
    assert scores[0.1][0].value > scores[0.6][0].value
    assert scores[0.1][1].value < scores[0.6][1].value
    assert scores[0.1][0].conditions.weights_sha256 == lite.weights_sha256


def test_features_of_two_kinds_or_a_wrong_place_are_refused():
    seen = make_features(5)
    other = Features(seen.values, Conditions("none", "a network", "another layer"))
    with pytest.raises(BadInput, match="another layer"):
        score_two_way("clip_two_way", other, seen)
    for own in (np.array([0, 1, 2, 3, 5]), np.array([0, 1])):
        with pytest.raises(BadInput):
            score_two_way("clip_two_way", seen, seen, own)
    with pytest.raises(BadInput):
        score_two_way("clip_two_way", Features(seen.values[:3], seen.conditions), seen)


def test_ranks_are_those_of_scipy_and_top_k_that_of_scikit_learn():
    similarity = np.random.default_rng(0).normal(size=(50, 50)) + 2 * np.eye(50)
    expected = [rankdata(-row)[number] for number, row in enumerate(similarity)]
    assert find_ranks(similarity).tolist() == expected
    assert median_rank(similarity) == np.median(expected)
    for k in (1, 5, 10):
        assert share_in_top(similarity, k) == top_k_accuracy_score(np.arange(50), similarity, k=k)
    assert find_ranks(np.ones((3, 3))).tolist() == [1, 2, 3]


def test_expected_hits_are_the_mean_of_drawn_pools():
    similarity = np.random.default_rng(0).normal(size=(12, 12)) + 0.8 * np.eye(12)
    random = np.random.default_rng(1)
    for n in (2, 4):
        drawn = np.zeros((12, 4000))
        for query in range(12):
            others = np.delete(np.arange(12), query)
            for draw in range(4000):
                drawn[query, draw] = (
                    similarity[query, random.choice(others, n - 1, False)] < similarity[query, query]
                ).all()
        assert np.allclose(expect_hits(similarity, n), drawn.mean(1), atol=0.04)
    assert np.array_equal(expect_hits(similarity, 12), similarity.argmax(1) == np.arange(12))
    assert np.allclose(expect_hits(np.tril(np.ones((5, 5)), -1), 2).mean(), 0.5)
    with pytest.raises(BadInput):
        expect_hits(similarity, 13)


def test_retrieval_is_the_published_protocol_both_ways_and_says_how_it_was_printed():
    shown, predicted = make_tokens(80), make_tokens(80, noise=2)
    brain, image = score_tokens(predicted, shown, pool=30, draws=400)
    protocol = score_retrieval(predicted, shown, 30, 400)
    assert (brain.value, image.value) == (protocol.image_of_brain.mean, protocol.brain_of_image.mean)
    assert image.value == protocol.published_image_retrieval.mean
    assert image.conditions.implementation == 'published as "image retrieval"'
    assert image.interval == (protocol.brain_of_image.low, protocol.brain_of_image.high)
    assert brain.chance == 1 / 30
    for result in (brain, image):
        assert result.mean == pytest.approx(result.value, abs=0.02)


def test_with_no_more_images_than_the_pool_each_picture_is_found_or_not():
    shown, predicted = make_tokens(20), make_tokens(20, noise=2)
    brain, image = score_tokens(predicted, shown)
    cosine = find_cosine(predicted, shown)
    assert np.array_equal(brain.scores, cosine.argmax(1) == np.arange(20))
    assert np.array_equal(image.scores, cosine.argmax(0) == np.arange(20))


def test_those_that_agree_with_people_come_first():
    agreement = [row.agreement for row in METRICS.values() if row.agreement is not None]
    assert agreement == sorted(agreement, reverse=True)
    assert next(iter(METRICS)) == "effnet_distance"
    assert [row.name for row in METRICS.values() if row.low_validity] == [
        "alexnet5_two_way",
        "pixel_correlation",
        "ssim",
    ]
    assert set(list(METRICS)[1:4]) == {"sentence_similarity", "retrieval_image_of_brain", "retrieval_brain_of_image"}


def test_every_score_of_a_network_is_in_the_tables():
    layers = {(name, layer) for name, network in NETWORKS.items() for layer in network.layers}
    assert layers == set(TWO_WAY) | set(DISTANCE)
    assert set(TWO_WAY.values()) | set(DISTANCE.values()) <= set(METRICS)


def test_results_are_ordered_described_and_refuse_nonsense():
    results = [
        MetricResult(name, np.ones(3), 1.0, "mean over pictures", None, Conditions("none"))
        for name in ("ssim", "cider")
    ]
    assert [result.name for result in order_results(results)] == ["cider", "ssim"]
    described = results[0].describe()
    assert described["low_validity"] is True
    assert "0.11" in described["validity"]
    assert described["preprocessing"] == "none"
    for name, scores in (("psnr", np.ones(3)), ("ssim", np.array([1, np.nan])), ("ssim", np.ones((2, 2)))):
        with pytest.raises(BadInput):
            MetricResult(name, scores, 1.0, "mean over pictures", None, Conditions("none"))
