"""Captions beside their control rows: what scores high by its words alone is seen to do so."""

import shutil

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from voxelight.models.errors import BadInput, Unavailable
from voxelight.neuro.evaluate.controls import Exchange, derange, draw_exchanges
from voxelight.neuro.evaluate.metrics.captions import References
from voxelight.neuro.evaluate.metrics.language import ImageTextEncoder
from voxelight.neuro.evaluate.metrics.ptb import split_words
from voxelight.neuro.evaluate.spoken import Encoders, Said, score_spoken

THINGS = ["dog", "house", "boat", "tree", "horse", "train", "cake", "bird"]
ITEMS = [f"a photo of a {thing}" for thing in THINGS]


@pytest.fixture(autouse=True)
def _no_java(monkeypatch):
    """It takes long to start; its own scores are tested where captions are."""
    monkeypatch.setattr(shutil, "which", lambda _: None)


@pytest.fixture
def scored():
    """Two seeds: the first says all things right, the second half of them."""
    wrong = ITEMS[4:] + ITEMS[4:]
    references = References("class sentences", tuple((text, f"{text} outside") for text in ITEMS))
    training = tuple((f"a photo of a {thing}",) for thing in ("cat", "cat", "cow", "car"))
    said = Said(list(zip(ITEMS, wrong, strict=True)), references, training, nearest=("a photo of a cat",) * len(ITEMS))
    exchange = Exchange(np.zeros(len(ITEMS), np.intp), "session", 0.0)
    orders = draw_exchanges(exchange, 30, 0)
    return said, score_spoken(said, orders, [derange(len(ITEMS), seed) for seed in range(2)])


def test_every_seed_is_scored_as_the_fields_own_library_does(scored):
    said, spoken = scored
    found = spoken.rows["decoded"]["cider"]
    assert found.shape == (2, len(ITEMS))
    for seed in range(2):
        told = {row: [" ".join(split_words(texts[seed]))] for row, texts in enumerate(said.decoded)}
        known = {row: [" ".join(split_words(t)) for t in texts] for row, texts in enumerate(said.references.texts)}
        _, expected = Cider().compute_score(known, told)
        np.testing.assert_allclose(found[seed], expected)
    assert found[0].mean() > found[1].mean()
    np.testing.assert_array_equal(found[0][4:], found[1][4:])


def test_control_rows_stand_beside_every_score(scored):
    _, spoken = scored
    assert "class sentences" in next(m.note for m in spoken.metrics if m.name == "bleu_4")
    for name in ("shuffled_betas", "nearest_training", "constant_caption", "most_frequent_caption"):
        assert spoken.rows[name].keys() == spoken.rows["decoded"].keys(), name
        assert spoken.rows[name]["cider"].mean() < spoken.rows["decoded"]["cider"][0].mean()
    # A sentence for all has most of the words; only CIDEr tells that it says nothing.
    assert spoken.rows["constant_caption"]["bleu_1"].mean() > 0.7
    assert spoken.rows["constant_caption"]["cider"].mean() < 1
    assert "--ceiling" in spoken.absent["generator_ceiling"]
    assert "spice" in " ".join(spoken.notes)
    assert "Of the whole set" in " ".join(spoken.notes)


def test_the_null_is_of_whole_items_exchanged(scored):
    _, spoken = scored
    assert spoken.nulls["cider"].shape == (30,)
    assert spoken.nulls["cider"].max() < spoken.rows["decoded"]["cider"][0].mean()
    assert spoken.nulls["bleu_1"].mean() > 0.5, "its floor is high"


def test_items_with_other_numbers_of_captions_are_refused(scored):
    said, _ = scored
    broken = Said([("a", "b"), ("a",), *said.decoded[2:]], said.references)
    with pytest.raises(BadInput, match="as many for each"):
        score_spoken(broken, np.zeros((1, len(ITEMS)), np.intp), [])


def test_clip_scores_take_the_pictures_that_were_seen(scored):
    """An encoder that knows colours: captions of the right colour score, and the null exchanges pictures too."""
    colours = {"red": 0, "green": 1, "blue": 2}
    pictures = np.zeros((6, 4, 4, 3), np.float32)
    for item in range(6):
        pictures[item, ..., item % 3] = 1

    def embed(texts):
        return np.stack([np.eye(3)[next(place for name, place in colours.items() if name in text)] for text in texts])

    clip = ImageTextEncoder("colours", "0" * 64, "none", lambda some: some.mean((1, 2)), embed)
    texts = tuple((f"a {name} thing",) for name in [*colours, *colours])
    said = Said(texts, References("colours", texts), pictures=pictures)
    order = np.array([1, 2, 0, 4, 5, 3])
    missing = {"sentence_similarity": Unavailable("no weights", "them", "Fetch them.")}
    spoken = score_spoken(said, order[None], [order], Encoders(clip=clip, missing=missing))
    np.testing.assert_allclose(spoken.rows["decoded"]["clip_score"], 2.5)
    np.testing.assert_allclose(spoken.rows["shuffled_betas"]["clip_score"], 0)
    assert spoken.nulls["clip_score"] == [0]
    assert "sentence_similarity could not be computed" in " ".join(spoken.notes)
