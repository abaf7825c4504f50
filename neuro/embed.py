"""Vectors of unit length for pictures, words and tokens, by which like is found by like; no network takes part.

They are descriptors: pictures are near that have edges and colours in the same places, texts that share words. What a
picture means they do not know; a network's features, in a space of their own, come closer to that.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput

Vector = NDArray[np.float32]
PICTURE_DIM, TEXT_DIM = 831, 1024
_SIDE, _CELL, _ORIENTATIONS = 64, 8, 9
_GRIDS = (8, 4, 2, 1)
_GREY = np.array([50.0, 0.0, 0.0])
_LONGEST = 4_000  # words
_PIECE = 3
_WITHOUT_CONTENT = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "has",
        "have",
        "in",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "there",
        "this",
        "to",
        "was",
        "were",
        "with",
    ]
)


def describe_picture(picture: NDArray[np.floating[Any]]) -> Vector:
    """Describe a picture by its edges and its colours, with the same weight.

    Edges are histograms of oriented gradients in 8 x 8 cells of a 64 x 64 copy (Dalal & Triggs 2005, without blocks);
    colours the means of CIELAB, less mid-grey, in 8 x 8, 4 x 4, 2 x 2 and one field.

    Parameters
    ----------
    picture : array (row, column, 1, 3 or 4 channels), in [0, 1]

    Returns
    -------
    array (831,), unit length

    Raises
    ------
    BadInput
        It has another shape.
    """
    from skimage import color, feature, transform

    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4) or min(picture.shape) < 1:
        raise BadInput(f"a picture of shape {picture.shape}", "(row, column, 1 or 3)", "Give a grey or colour picture.")
    resize: Any = transform.resize
    colours = np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3)).astype(np.float64)
    small = resize(colours, (_SIDE, _SIDE, 3), order=1, anti_aliasing=True).clip(0, 1)
    lab = color.rgb2lab(small) - _GREY
    edges = feature.hog(
        lab[..., 0], orientations=_ORIENTATIONS, pixels_per_cell=(_CELL, _CELL), cells_per_block=(1, 1), block_norm="L2"
    )
    fields = [lab.reshape(n, _SIDE // n, n, _SIDE // n, 3).mean(axis=(1, 3)).ravel() / n for n in _GRIDS]
    return unit(np.concatenate([unit(edges), unit(np.concatenate(fields))]))


def describe_text(text: str) -> Vector:
    """Describe a text by its words, pairs of words and the three-letter pieces of words.

    Each is hashed to a place and a sign (Weinberger et al. 2009) and counts 1 + ln(times); pieces count a quarter, so
    that ``dogs`` is near ``dog``, and English words without content nothing. There is no dictionary, so the vector of a
    text never changes.

    Parameters
    ----------
    text : in any language

    Returns
    -------
    array (1024,), unit length; zero where there is no word
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    found = re.findall(r"[^\W_]+", "".join(letter for letter in plain if not unicodedata.combining(letter)))
    words = [word for word in found if word not in _WITHOUT_CONTENT][:_LONGEST]
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    pieces = [
        padded[at : at + _PIECE] for padded in (f"<{word}>" for word in words) for at in range(len(padded) - _PIECE + 1)
    ]
    vector = np.zeros(TEXT_DIM)
    for kind, tokens, weight in (("word", words, 1.0), ("pair", pairs, 0.5), ("piece", pieces, 0.25)):
        for token, times in Counter(tokens).items():
            digest = int.from_bytes(hashlib.blake2b(f"{kind}:{token}".encode(), digest_size=8).digest(), "little")
            vector[digest % TEXT_DIM] += (1 if digest >> 63 else -1) * weight * (1 + np.log(times))
    return unit(vector)


def pool_tokens(tokens: NDArray[np.floating[Any]]) -> Vector:
    """Return the mean of a sequence of tokens at unit length.

    Parameters
    ----------
    tokens : array (token, dim)
    """
    return unit(tokens.astype(np.float64).mean(axis=0))


def unit(vector: NDArray[np.floating[Any]]) -> Vector:
    """Return a vector at unit length; zero stays zero."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return (vector / length if length > 0 else vector).astype(np.float32)
