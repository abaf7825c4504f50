"""Caption scores against the libraries they come from and the formulas of their papers, on real captions."""

import shutil
from collections import Counter

import nltk
import numpy as np
import pytest
from nltk.corpus.reader import WordNetCorpusReader
from nltk.corpus.util import LazyCorpusLoader
from nltk.translate.bleu_score import corpus_bleu

from voxelight.models.errors import BadInput, Unavailable
from voxelight.neuro.evaluate.metrics import captions as module
from voxelight.neuro.evaluate.metrics.captions import (
    WORD_SCORES,
    Captions,
    References,
    score_bleu,
    score_cider,
    score_meteor,
    score_meteor_nltk,
    score_meteor_stems,
    score_rouge,
    score_rouge_coco,
    score_spice,
    score_words,
)
from voxelight.neuro.evaluate.metrics.ptb import split_words


@pytest.fixture(scope="module")
def shuffled(captions):
    return Captions(captions.texts[1:] + captions.texts[:1], captions.references)


def words_of(captions):
    told = [split_words(text) for text in captions.texts]
    return told, [[split_words(text) for text in texts] for texts in captions.references.texts]


def longest_common(first, second):
    lengths = np.zeros((len(first) + 1, len(second) + 1), int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if a == b else max(lengths[i, j + 1], lengths[i + 1, j])
    return lengths[-1, -1]


def test_bleu_of_the_set_is_that_of_nltk(captions):
    told, references = words_of(captions)
    for n, result in enumerate(score_bleu(captions), 1):
        assert result.value == pytest.approx(corpus_bleu(references, told, [1 / n] * n), abs=1e-6)
        assert result.aggregate == "whole set"
        assert len(result.scores) == 80


def test_rouge_l_of_coco_is_its_formula(captions):
    told, references = words_of(captions)
    expected = []
    for words, group in zip(told, references, strict=True):
        common = [longest_common(words, other) for other in group]
        precision = max(common) / len(words)
        recall = max(length / len(other) for length, other in zip(common, group, strict=True))
        expected.append((1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision))
    assert np.allclose(score_rouge_coco(captions)[0].scores, expected)


def test_rouge_1_is_the_f1_of_the_best_reference():
    told = Captions(("A dog runs on grass",), References("mine", (("The dog sat", "a dog on the green grass"),)))
    rouge_1, rouge_l = score_rouge(told)
    shared = sum(
        (Counter(["a", "dog", "runs", "on", "grass"]) & Counter(["a", "dog", "on", "the", "green", "grass"])).values()
    )
    precision, recall = shared / 5, shared / 6
    assert rouge_1.value == pytest.approx(2 * precision * recall / (precision + recall))
    assert rouge_l.value == pytest.approx(rouge_1.value)


def test_cider_is_ten_for_the_reference_itself_and_low_for_another_picture(captions, shuffled):
    first = tuple(texts[:1] for texts in captions.references.texts)
    same = Captions(tuple(texts[0] for texts in first), References("coco captions", first))
    assert score_cider(same)[0].value == pytest.approx(10)
    own, other = score_cider(captions)[0], score_cider(shuffled)[0]
    assert own.value > 5 * other.value
    assert own.value == pytest.approx(own.scores.mean())
    with pytest.raises(BadInput, match="two or more"):
        score_cider(Captions(("a dog",), References("mine", (("a dog",),))))


def test_meteor_of_nltk_without_synonyms_is_its_formula():
    told = Captions(("dogs runs on the grass",), References("mine", (("a dog ran on the grass",),)))
    # dogs-dog by stem, on, the, grass exactly; two chunks in four matches of five and six words.
    precision, recall, chunks = 4 / 5, 4 / 6, 2 / 4
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    found = score_meteor_stems(told)[0]
    assert found.value == pytest.approx(mean * (1 - 0.5 * chunks**3))
    assert "no synonyms" in found.conditions.preprocessing


def test_meteor_of_nltk_says_where_its_synonyms_come_from(captions, monkeypatch):
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(nltk.corpus, "wordnet", LazyCorpusLoader("wordnet", WordNetCorpusReader, None))
    with pytest.raises(Unavailable, match=r"nltk\.downloader wordnet"):
        score_meteor_nltk(captions)


def test_meteor_1_5_is_another_number_than_that_of_nltk_or_says_what_is_missing(captions):
    few = Captions(captions.texts[:5], References("coco captions", captions.references.texts[:5]))
    if shutil.which("java") is None:
        with pytest.raises(Unavailable, match="java"):
            score_meteor(few)
        return
    found = score_meteor(few)[0]
    assert found.aggregate == "whole set"
    assert 0.1 < found.value < 0.5
    assert abs(found.value - score_meteor_stems(few)[0].value) > 0.05
    assert "1.5" in found.conditions.implementation


def test_without_java_a_score_says_so(captions, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for score in (score_meteor, score_spice):
        with pytest.raises(Unavailable, match="Java"):
            score(captions)


def test_without_its_library_a_score_says_how_it_comes(captions, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocoevalcap.cider.cider", None)
    with pytest.raises(Unavailable, match=r"voxelight\[evaluate\]"):
        score_cider(captions)


def test_all_that_can_be_had_is_scored_and_the_rest_explained(captions, monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    results, missing = score_words(captions)
    assert {"cider", "bleu_1", "bleu_4", "rouge_1", "rouge_l", "rouge_l_coco", "meteor_nltk_stems"} <= {
        result.name for result in results
    }
    assert {"meteor_1_5", "spice"} <= set(missing) < set(WORD_SCORES)
    assert {result.conditions.reference_set for result in results} == {"coco captions"}


def test_captions_of_the_picture_score_above_those_of_another(captions, shuffled):
    for score in (score_bleu, score_rouge, score_rouge_coco, score_meteor_stems):
        for own, other in zip(score(captions), score(shuffled), strict=True):
            assert own.value > other.value


def test_a_reference_set_has_a_name_and_words_for_every_picture():
    for name, texts in (
        (" ", (("a dog",),)),
        ("coco captions", ()),
        ("coco captions", (("a dog",), ())),
        ("x", ((" ",),)),
    ):
        with pytest.raises(BadInput):
            References(name, texts)
    with pytest.raises(BadInput, match="2 captions for 1 pictures"):
        Captions(("a", "b"), References("class names", (("a dog",),)))
