"""Retrieval: which image a brain looked at, and which brain an image was shown to, by the cosine of their tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import ClipTokens

Floats = NDArray[np.float32]

# Rows whose tokens are held in float32 at a time.
_ROWS = 256
_Z95 = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Retrieved:
    """The nearest of a gallery for every query, best first.

    Parameters
    ----------
    rows : array (query, k), rows of the gallery
    similarity : array (query, k), cosine
    """

    rows: NDArray[np.intp]
    similarity: Floats


@dataclass(frozen=True)
class Rate:
    """A share of hits with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class RetrievalScore:
    """Top-1 retrieval among a pool, both ways.

    The published code returns its similarity matrix transposed, and so calls each direction by the other's name. Its
    figures are reproduced under the names that it prints.

    Parameters
    ----------
    brain_of_image : for each image, the most similar brain is its own. Published as "image retrieval", `fwd`
    image_of_brain : for each brain, the most similar image is its own. Published as "brain retrieval", `bwd`
    pool : images that one had to be found among
    draws : of that many images
    interval : what the intervals are taken over
    """

    brain_of_image: Rate
    image_of_brain: Rate
    pool: int
    draws: int
    interval: str

    @property
    def published_image_retrieval(self) -> Rate:
        """What the paper prints as image retrieval."""
        return self.brain_of_image

    @property
    def published_brain_retrieval(self) -> Rate:
        """What the paper prints as brain retrieval."""
        return self.image_of_brain

    @property
    def chance(self) -> float:
        """The share of hits of a guess."""
        return 1 / self.pool


def retrieve(queries: ClipTokens, gallery: ClipTokens, k: int = 5) -> Retrieved:
    """Find the k nearest items of a gallery for every query, ties in the order of the gallery.

    Parameters
    ----------
    queries, gallery : ClipTokens (item, token, dim) of one space
    k : at most as many as the gallery holds are returned

    Raises
    ------
    BadInput
        The spaces differ, a vector is zero or not finite, or k is not positive.
    """
    if k < 1:
        raise BadInput(f"k = {k}", "at least 1", "Ask for one neighbour or more.")
    cosine = find_cosine(queries, gallery)
    rows = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return Retrieved(rows, np.take_along_axis(cosine, rows, axis=1))


def choose_second_order(candidates: ClipTokens, wanted: ClipTokens) -> Retrieved:
    """Order what a first search found by finer tokens: pictures by all 257 of theirs, say, that one vector found.

    MindEye1 asks an index with one vector of a brain, encodes what comes, and keeps what is nearest to the retrieval
    tokens of the same brain (Scotti et al. 2023, section 3.3).

    Parameters
    ----------
    candidates : ClipTokens (picture, token, dim), of what was found
    wanted : ClipTokens (1, token, dim), the retrieval tokens of the brain

    Returns
    -------
    Retrieved, a single query with all candidates in their order

    Raises
    ------
    BadInput
        There is more than one brain, or `find_cosine` refuses.
    """
    if len(wanted.values) != 1:
        raise BadInput(f"retrieval tokens of {len(wanted.values)} trials", "those of one", "Ask trial by trial.")
    return retrieve(wanted, candidates, len(candidates.values))


def find_cosine(queries: ClipTokens, gallery: ClipTokens) -> Floats:
    """Return cos(q, g) of the flattened tokens, array (query, item of the gallery).

    Raises
    ------
    BadInput
        The spaces or shapes differ, or a vector is zero or not finite.
    """
    if queries.space != gallery.space or queries.values.shape[1:] != gallery.values.shape[1:]:
        raise BadInput(
            f"queries of {queries.space} {queries.values.shape[1:]}, a gallery of {gallery.space} "
            f"{gallery.values.shape[1:]}",
            "one space and shape",
            "Encode the gallery with the encoder that the decoder was trained for.",
        )
    cosine = np.empty((len(queries.values), len(gallery.values)), np.float32)
    for row in range(0, len(cosine), _ROWS):
        some = _normalised(queries, row)
        for column in range(0, cosine.shape[1], _ROWS):
            cosine[row : row + _ROWS, column : column + _ROWS] = some @ _normalised(gallery, column).T
    return cosine


def score_retrieval(
    predicted: ClipTokens, shown: ClipTokens, pool: int = 300, draws: int = 30, seed: int = 0
) -> RetrievalScore:
    """Score top-1 retrieval as published: the mean over draws of a pool of images without replacement.

    With no more images than the pool, one draw takes all of them, and the interval is Wilson's over the images
    (Wilson 1927); else it is normal over the draws, mean +- 1.96 std / sqrt(draws).

    Parameters
    ----------
    predicted : ClipTokens (image, token, dim), the retrieval tokens of the decoder, averaged over repeats
    shown : ClipTokens (image, token, dim), of the images in the same order
    pool, draws : 300 and 30 as published
    seed : of the draws

    Raises
    ------
    BadInput
        The numbers of images differ, there are fewer than two, or `find_cosine` refuses.
    """
    if len(predicted.values) != len(shown.values) or len(shown.values) < 2 or pool < 2 or draws < 1:
        raise BadInput(
            f"{len(predicted.values)} predictions for {len(shown.values)} images, {draws} draws of {pool}",
            "one prediction an image, two or more, in one draw or more of two or more",
            "Average the repeats first and give the images once, in the same order.",
        )
    cosine = find_cosine(predicted, shown)
    if len(cosine) <= pool:
        brain_of_image, image_of_brain = (_wilson(find_hits(matrix)) for matrix in (cosine.T, cosine))
        return RetrievalScore(brain_of_image, image_of_brain, len(cosine), 1, "Wilson, over images")
    generator = np.random.default_rng(seed)
    chosen = [generator.choice(len(cosine), pool, replace=False) for _ in range(draws)]
    pools = [cosine[np.ix_(rows, rows)] for rows in chosen]
    brain_of_image, image_of_brain = (
        _normal(np.array([find_hits(matrix).mean() for matrix in matrices]))
        for matrices in ([matrix.T for matrix in pools], pools)
    )
    return RetrievalScore(brain_of_image, image_of_brain, pool, draws, "normal, over draws")


def find_hits(similarity: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for every row whether its own column is the largest, ties counting for the first."""
    hits: NDArray[np.bool_] = similarity.argmax(axis=1) == np.arange(len(similarity))
    return hits


def _normalised(tokens: ClipTokens, start: int) -> Floats:
    flat = np.asarray(tokens.values[start : start + _ROWS], np.float32).reshape(
        len(tokens.values[start : start + _ROWS]), -1
    )
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    if not bool(np.isfinite(norm).all()) or not bool((norm > 0).all()):
        raise BadInput(
            f"tokens from row {start} on with a norm of {norm.min()} to {norm.max()}",
            "finite vectors other than zero",
            "Leave out what the decoder or the encoder could not answer.",
        )
    normalised: Floats = flat / norm
    return normalised


def _normal(values: NDArray[np.float64]) -> Rate:
    mean, half = float(values.mean()), float(_Z95 * values.std() / len(values) ** 0.5)
    return Rate(mean, mean - half, mean + half)


def _wilson(hits: NDArray[np.bool_]) -> Rate:
    count, share, z = len(hits), float(hits.mean()), _Z95
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return Rate(share, centre - half, centre + half)
