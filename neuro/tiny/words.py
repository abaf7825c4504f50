"""Captions of classes and the words that they are made of. Imports no torch."""

import re
from collections.abc import Sequence

from voxelight.models.captioning.vocabulary import SPECIAL

_START, _END = "[CLS]", "[SEP]"


def caption_class(name: str) -> str:
    """Return "a photo of a <class>", the class in small letters, and hyphens as spaces."""
    return f"a photo of a {name.lower().replace('-', ' ')}"


def build_vocabulary(names: Sequence[str]) -> tuple[str, ...]:
    """Return the entries that captions of classes are spelled with.

    The end comes last, because CLIP's text tower finds the end of a text by the largest number.

    Parameters
    ----------
    names : of the classes
    """
    words = sorted({word for name in names for word in split_words(caption_class(name))})
    return (*(entry for entry in SPECIAL if entry != _END), *words, _END)


def split_words(text: str) -> list[str]:
    """Return words and punctuation, as BERT's tokenizer parts them before it looks for pieces."""
    return re.findall(r"\w+|[^\w\s]", text)


def spell_numbers(texts: Sequence[str], vocabulary: Sequence[str]) -> list[list[int]]:
    """Return the numbers of texts between start and end, padded with 0 to the longest.

    Parameters
    ----------
    texts : of words of the vocabulary
    vocabulary : of `build_vocabulary`
    """
    numbers = {entry: number for number, entry in enumerate(vocabulary)}
    rows = [[numbers[word] for word in (_START, *split_words(text), _END)] for text in texts]
    longest = max(map(len, rows))
    return [row + [0] * (longest - len(row)) for row in rows]
