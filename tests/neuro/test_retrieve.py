"""Retrieval against scikit-learn, the parity fixture and the published code's own naming."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.neighbors import NearestNeighbors

from voxelight.models.errors import BadInput
from voxelight.models.values import ClipTokens
from voxelight.neuro import stages
from voxelight.neuro.networks import load_networks
from voxelight.neuro.profiles import GenerationOptions, find_profile
from voxelight.neuro.retrieve import choose_second_order, find_cosine, retrieve, score_retrieval

SPACE = "ViT-L-14/openai/last"


def make_tokens(count, seed=0, shape=(5, 7)):
    return ClipTokens(np.random.default_rng(seed).standard_normal((count, *shape)), SPACE)


def noisy(tokens, noise, seed=1):
    drawn = np.random.default_rng(seed).standard_normal(tokens.values.shape)
    return ClipTokens(tokens.values + noise * drawn, tokens.space)


def test_the_nearest_are_those_of_scikit_learn():
    queries, gallery = make_tokens(40, 1), make_tokens(600, 2)
    found = retrieve(queries, gallery, k=7)
    oracle = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute")
    distance, rows = oracle.fit(gallery.values.reshape(600, -1)).kneighbors(queries.values.reshape(40, -1))
    assert np.array_equal(found.rows, rows)
    assert np.allclose(1 - found.similarity, distance, atol=1e-5)


def test_a_small_gallery_is_returned_whole():
    found = retrieve(make_tokens(3), make_tokens(4, 2), k=10)
    assert found.rows.shape == found.similarity.shape == (3, 4)
    assert np.array_equal(np.sort(found.rows), np.tile(np.arange(4), (3, 1)))


def test_a_second_order_search_finds_among_the_first_by_finer_tokens_what_one_vector_misses():
    shown = make_tokens(50, 6)
    coarse = ClipTokens(shown.values.mean(1, keepdims=True), SPACE)
    brain = noisy(ClipTokens(shown.values[:1], SPACE), 0.5)
    first = retrieve(noisy(ClipTokens(coarse.values[:1], SPACE), 0.4, seed=3), coarse, k=16).rows[0]
    assert 0 in first[1:]
    found = choose_second_order(ClipTokens(shown.values[first], SPACE), brain)
    assert first[found.rows[0, 0]] == 0
    oracle = NearestNeighbors(n_neighbors=16, metric="cosine", algorithm="brute").fit(
        shown.values[first].reshape(16, -1)
    )
    assert np.array_equal(found.rows, oracle.kneighbors(brain.values.reshape(1, -1), return_distance=False))
    with pytest.raises(BadInput, match="retrieval tokens of 2 trials"):
        choose_second_order(shown, make_tokens(2))


def test_length_does_not_matter():
    queries, gallery = make_tokens(20, 1), make_tokens(30, 2)
    scaled = ClipTokens(gallery.values * np.geomspace(0.1, 10, 30)[:, None, None], SPACE)
    assert np.allclose(find_cosine(queries, scaled), find_cosine(queries, gallery), atol=1e-6)


def test_both_directions_are_counted_by_scikit_learn():
    shown = make_tokens(120, 3)
    predicted = noisy(shown, 2.5)
    score = score_retrieval(predicted, shown)
    rows = [tokens.values.reshape(120, -1) for tokens in (predicted, shown)]

    def hits(queries, gallery):
        nearest = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(gallery)
        return np.mean(nearest.kneighbors(queries, return_distance=False)[:, 0] == np.arange(120))

    assert 0 < score.image_of_brain.mean < 1
    assert score.image_of_brain.mean == pytest.approx(hits(rows[0], rows[1]))
    assert score.brain_of_image.mean == pytest.approx(hits(rows[1], rows[0]))


def test_the_published_names_are_transposed():
    """A brain that is near every image wins each row of images, so only one direction suffers."""
    shown = make_tokens(10, 4)
    values = shown.values.copy()
    values[0] = shown.values.sum(axis=0) * 3
    predicted = ClipTokens(values + 0.8 * np.random.default_rng(5).standard_normal(values.shape), SPACE)
    score = score_retrieval(predicted, shown)
    assert score.brain_of_image.mean != score.image_of_brain.mean
    assert score.published_image_retrieval == score.brain_of_image
    assert score.published_brain_retrieval == score.image_of_brain


def test_the_fixture_agrees_on_fwd_and_bwd(shared_fixtures):
    found = sorted(Path(shared_fixtures).rglob("losses.safetensors"))
    assert found
    for path in found:
        tensors = load_file(path)
        predicted, shown = (ClipTokens(tensors[f"in.{name}"][:, None], SPACE) for name in ("preds", "targs"))
        similarity = find_cosine(shown, predicted)
        assert np.allclose(similarity, tensors["out.cos_sim_PQ"], atol=1e-5)
        score = score_retrieval(predicted, shown)
        assert score.published_image_retrieval.mean == pytest.approx(tensors["out.fwd_top1"].item())
        assert score.published_brain_retrieval.mean == pytest.approx(tensors["out.bwd_top1"].item())


def test_a_pool_is_drawn_without_replacement_and_averaged():
    shown = make_tokens(700, 6, (2, 3))
    predicted = noisy(shown, 0.8)
    score = score_retrieval(predicted, shown, pool=300, draws=30, seed=3)
    assert (score.pool, score.draws, score.chance) == (300, 30, 1 / 300)
    generator = np.random.default_rng(3)
    shares = []
    for _ in range(30):
        rows = generator.choice(700, 300, replace=False)
        assert len(set(rows.tolist())) == 300
        some = ClipTokens(predicted.values[rows], SPACE), ClipTokens(shown.values[rows], SPACE)
        shares.append(score_retrieval(*some).image_of_brain.mean)
    assert score.image_of_brain.mean == pytest.approx(np.mean(shares))
    half = 1.96 * np.std(shares) / np.sqrt(30)
    assert score.image_of_brain.low == pytest.approx(np.mean(shares) - half, abs=1e-5)
    assert score.image_of_brain.high == pytest.approx(np.mean(shares) + half, abs=1e-5)
    assert score == score_retrieval(predicted, shown, pool=300, draws=30, seed=3)


def test_fewer_images_than_the_pool_are_taken_once_with_an_interval_over_images():
    shown = make_tokens(50, 7)
    score = score_retrieval(noisy(shown, 0.1), shown)
    assert (score.pool, score.draws, score.interval) == (50, 1, "Wilson, over images")
    assert score.image_of_brain.mean == 1
    assert 0.9 < score.image_of_brain.low < 1
    assert score.image_of_brain.high == pytest.approx(1)


def test_what_can_not_be_compared_is_refused():
    tokens = make_tokens(4)
    with pytest.raises(BadInput, match="one space and shape"):
        retrieve(tokens, ClipTokens(tokens.values, "ViT-bigG-14/last"))
    with pytest.raises(BadInput, match="one space and shape"):
        retrieve(tokens, make_tokens(4, shape=(7, 5)))
    with pytest.raises(BadInput, match="k = 0"):
        retrieve(tokens, tokens, k=0)
    for wrong in (0, np.nan):
        values = tokens.values.copy()
        values[2] = wrong
        with pytest.raises(BadInput, match="other than zero"):
            retrieve(ClipTokens(values, SPACE), tokens)
    with pytest.raises(BadInput, match="4 predictions for 3 images"):
        score_retrieval(tokens, make_tokens(3))


def test_images_of_a_gallery_are_found_by_their_own_tokens():
    options = GenerationOptions(dtype="float32")
    networks = load_networks(find_profile("random-small"), Path(), options, "cpu", parts=["image_encoder"])
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with networks.on_device("image_encoder"):
        tokens = stages.encode_images(networks, images)
        alone = stages.encode_images(networks, images[4:5])
    assert tokens.shape == (6, 16, 64)
    gallery = ClipTokens(tokens.numpy(), networks.profile.space)
    assert retrieve(ClipTokens(alone.numpy(), networks.profile.space), gallery, k=1).rows.item() == 4
