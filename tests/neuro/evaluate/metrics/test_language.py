"""Similarity of sentences with the network that a package carries, and the formulas of CLIPScore."""

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.metrics.captions import Captions, References
from voxelight.neuro.evaluate.metrics.language import (
    ImageTextEncoder,
    TextEncoder,
    load_sentence_encoder,
    score_clip,
    score_similarity,
)

VECTORS = {
    "a dog": [1.0, 0, 0],
    "a cat": [0.6, 0.8, 0],
    "a tree": [0, 0, 2.0],
    "a car": [0, 1, 0],
    "a house": [-1.0, 0, 0],
}


def embed(texts):
    return np.array([VECTORS[text.removeprefix("A photo depicts ")] for text in texts])


@pytest.fixture(scope="module")
def sentences():
    return load_sentence_encoder()


def test_sentences_that_mean_the_same_are_nearer(sentences, told_by_people):
    few = [texts[:2] for texts in told_by_people[:6]]
    references = References("coco captions", tuple((texts[1],) for texts in few))
    own = score_similarity(Captions(tuple(texts[0] for texts in few), references), sentences)
    others = score_similarity(Captions(tuple(texts[0] for texts in few[1:] + few[:1]), references), sentences)
    assert own.value > others.value + 0.3
    assert own.conditions.weights_sha256 == sentences.weights_sha256
    assert own.conditions.reference_set == "coco captions"


def test_a_sentence_has_one_vector_in_any_company(sentences):
    texts = ["A man rides a horse.", "a dog", "Three people stand around a table full of food, drinks and plates."]
    together = sentences.embed(texts)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(together, np.concatenate([sentences.embed([text]) for text in texts]), atol=1e-5)


def test_similarity_is_the_mean_cosine_over_references():
    told = Captions(("a dog", "a tree"), References("mine", (("a dog", "a cat"), ("a car",))))
    found = score_similarity(told, TextEncoder("a table", "", embed))
    assert found.scores.tolist() == pytest.approx([0.8, 0])


def test_clip_scores_are_those_of_the_paper():
    told = Captions(("a dog", "a tree"), References("mine", (("a cat", "a car"), ("a tree",))))
    pictures = np.zeros((2, 4, 4, 3), np.float32)
    shown = np.array([[0.8, 0.6, 0], [0, 0, -1.0]])
    encoder = ImageTextEncoder("a table", "", "none", lambda _: shown, embed)
    direct, with_references = score_clip(told, pictures, encoder)
    assert direct.scores.tolist() == pytest.approx([2.5 * 0.8, 0])
    assert with_references.scores.tolist() == pytest.approx([2 / (1 / 2.0 + 1 / 0.6), 0])
    assert (direct.conditions.reference_set, with_references.conditions.reference_set) == ("", "mine")
    with pytest.raises(BadInput):
        score_clip(told, pictures[:1], encoder)


def test_a_vector_without_direction_is_refused():
    told = Captions(("a dog",), References("mine", (("a cat",),)))
    with pytest.raises(BadInput, match="zero"):
        score_similarity(told, TextEncoder("nothing", "", lambda texts: np.zeros((len(texts), 3))))
