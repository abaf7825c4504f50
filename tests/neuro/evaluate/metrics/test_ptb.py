"""The Penn Treebank tokenizer against stored output of the Java program."""

import hashlib
import json
from pathlib import Path

import pytest

from voxelight.neuro.evaluate.metrics.ptb import PUNCTUATION, split_tokens, split_words

STORED = json.loads((Path(__file__).parent / "ptb_java.json").read_text("utf-8"))


@pytest.mark.parametrize("sentence", STORED["tokens"])
def test_tokens_are_those_of_the_java_program(sentence):
    assert " ".join(split_tokens(sentence)) == STORED["tokens"][sentence]


def test_the_words_of_400_captions_are_those_of_the_java_program(shared_data):
    rows = json.loads((shared_data / "coco_mini" / "annotations" / "captions_train2017.json").read_text())
    words = [" ".join(split_words(row["caption"].replace("\n", " "))) for row in rows["annotations"]]
    assert hashlib.sha256("\n".join(words).encode()).hexdigest() == STORED["coco_mini_words_sha256"]


def test_punctuation_is_dropped_but_brackets_stay_as_in_the_published_scores():
    assert split_words('A man - "happy" (and old).') == ["a", "man", "happy", "-lrb-", "and", "old", "-rrb-"]


@pytest.mark.parametrize("caption", ["", " \n\t", "...", "!?"])
def test_a_caption_without_words_has_none(caption):
    assert [word for word in split_words(caption) if word not in {"?!", "!?"}] == []


def test_no_character_is_lost_or_invented_on_the_way():
    text = "two dogs, 3 cats & a #hashtag: 10:30pm / 7.5% can't"
    assert "".join(split_tokens(text)) == text.replace(" ", "")


def test_what_is_dropped_is_what_the_published_code_lists():
    tokenizer = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    assert set(tokenizer.PUNCTUATIONS) == PUNCTUATION
