"""How well reconstructions pick out what was seen: two-way identification, feature distance and retrieval."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import ClipTokens
from voxelight.neuro.evaluate.metrics.features import Features, refuse_other_features
from voxelight.neuro.evaluate.metrics.pictures import correlate_pairs
from voxelight.neuro.evaluate.metrics.result import Conditions, MetricResult, average
from voxelight.neuro.evaluate.similarity import correlate, own_correlation
from voxelight.neuro.retrieve import find_cosine, find_hits, score_retrieval

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.intp]

TWO_WAY = {
    ("alexnet", "features.4"): "alexnet2_two_way",
    ("alexnet", "features.11"): "alexnet5_two_way",
    ("inception-v3", "avgpool"): "inception_two_way",
    ("clip-vit-l14", "image_embeds"): "clip_two_way",
    ("efficientnet-lite0", "pooled"): "lite_two_way",
}
DISTANCE = {
    ("efficientnet-b1", "avgpool"): "effnet_distance",
    ("swav-resnet50", "avgpool"): "swav_distance",
    ("efficientnet-lite0", "pooled"): "lite_distance",
}

_ROWS = 256


def score_two_way(name: str, reconstructed: Features, seen: Features, own: Places | None = None) -> MetricResult:
    r"""Score two-way identification as published.

    For reconstruction j of picture i the score is the share of the other pictures k whose features correlate less with
    those of the reconstruction, :math:`r_{kj} < r_{ij}` (Ozcelik and VanRullen 2023). Ties count as misses. The gallery
    is fixed, so the scores of pictures may be resampled.

    Parameters
    ----------
    name : of the score, a value of `TWO_WAY`
    reconstructed : Features (item, feature)
    seen : Features (picture, feature), the gallery
    own : array (item,), the row of the gallery that each item reconstructs; None: in one order

    Returns
    -------
    MetricResult, one score an item

    Raises
    ------
    BadInput
        The features are of two kinds, or there are fewer than two pictures.
    """
    refuse_other_features(reconstructed, seen)
    places = _check_places(own, len(reconstructed.values), len(seen.values))
    correlations = correlate_features(reconstructed.values, seen.values)
    true = own_correlation(correlations, places)[:, None]
    shares = (correlations < true).sum(1) / (correlations.shape[1] - 1)
    return average(name, shares, 0.5, replace(seen.conditions, gallery=len(seen.values)))


def score_distance(name: str, reconstructed: Features, seen: Features, own: Places | None = None) -> MetricResult:
    """Score the correlation distance of features, 1 - r, as published for EffNet-B and SwAV.

    Parameters
    ----------
    name : of the score, a value of `DISTANCE`
    reconstructed, seen, own : see `score_two_way`

    Raises
    ------
    BadInput
        The features are of two kinds.
    """
    refuse_other_features(reconstructed, seen)
    places = _check_places(own, len(reconstructed.values), len(seen.values), fewest=1)
    return average(name, 1 - correlate_pairs(reconstructed.values, seen.values[places]), None, seen.conditions)


def score_tokens(
    predicted: ClipTokens, shown: ClipTokens, pool: int = 300, draws: int = 30, seed: int = 0
) -> tuple[MetricResult, MetricResult]:
    """Score top-1 retrieval both ways by the published protocol (`voxelight.neuro.retrieve.score_retrieval`).

    The value and its interval are those of the protocol. The scores of pictures are the expected hits of each picture
    in a pool that holds it: see `expect_hits`. Their mean is what the draws estimate.

    Parameters
    ----------
    predicted : ClipTokens (picture, token, dim), averaged over repeats
    shown : ClipTokens (picture, token, dim), in the same order
    pool, draws : 300 and 30 as published
    seed : of the draws

    Returns
    -------
    image of brain, brain of image
        For each brain the image, and for each image the brain. The published code prints the second as "image
        retrieval" and the first as "brain retrieval".

    Raises
    ------
    BadInput
        The tokens do not belong together, or there are fewer than two.
    """
    score = score_retrieval(predicted, shown, pool, draws, seed)
    cosine = find_cosine(predicted, shown)
    results = []
    for name, rate, matrix, printed in (
        ("retrieval_image_of_brain", score.image_of_brain, cosine, "brain retrieval"),
        ("retrieval_brain_of_image", score.brain_of_image, cosine.T, "image retrieval"),
    ):
        conditions = Conditions(
            f"flattened tokens, cosine; {score.draws} draws of {score.pool}; interval {score.interval}",
            network=shown.space,
            gallery=score.pool,
            implementation=f'published as "{printed}"',
        )
        hits = expect_hits(matrix, score.pool)
        interval = rate.low, rate.high
        results.append(MetricResult(name, hits, rate.mean, "mean over pictures", score.chance, conditions, interval))
    return results[0], results[1]


def find_ranks(similarity: Floats) -> NDArray[np.intp]:
    """Return the rank of every row's own column, 1 for the largest; of equals, the first comes first.

    Parameters
    ----------
    similarity : array (query, gallery), the own item of query i in column i
    """
    own = np.diagonal(similarity)[:, None]
    rows, columns = similarity.shape
    before = np.arange(columns)[None, :] < np.arange(rows)[:, None]
    ranks: NDArray[np.intp] = 1 + (similarity > own).sum(1) + ((similarity == own) & before).sum(1)
    return ranks


def share_in_top(similarity: Floats, k: int) -> float:
    """Return the share of rows whose own column is among the k largest."""
    return float((find_ranks(similarity) <= k).mean())


def median_rank(similarity: Floats) -> float:
    """Return the median rank of the own column; a guess has (gallery + 1) / 2."""
    return float(np.median(find_ranks(similarity)))


def expect_hits(similarity: Floats, n: int) -> NDArray[np.float64]:
    r"""Return how often each row's own column is the largest of n, the n - 1 others drawn without replacement.

    With b columns above the own one of N - 1 others, the expectation over all draws is
    :math:`\binom{N-1-b}{n-1} / \binom{N-1}{n-1}`; a guess has 1 / n. It is the field's
    N-way identification without the noise of drawing.

    Parameters
    ----------
    similarity : array (query, gallery), the own item of query i in column i
    n : size of a pool; with the whole gallery, the plain hit

    Raises
    ------
    BadInput
        n is below 2 or above the gallery.
    """
    others = similarity.shape[1] - 1
    if not 2 <= n <= others + 1:
        raise BadInput(f"{n}-way identification", f"2 to {others + 1}, the size of the gallery", "Name another n.")
    if n == others + 1:
        return find_hits(similarity).astype(np.float64)
    above = (find_ranks(similarity) - 1)[:, None]
    steps = np.arange(n - 1)[None, :]
    factors = (others - above - steps) / (others - steps)
    expected: NDArray[np.float64] = np.prod(np.clip(factors, 0, None), axis=1)
    return expected


def correlate_features(reconstructed: Floats, seen: Floats) -> NDArray[np.float64]:
    """Correlate all features (Pearson), a block at a time: those of AlexNet(2) for 1000 pictures do not fit twice.

    Returns
    -------
    array (item, picture)
    """
    found = np.empty((len(reconstructed), len(seen)))
    for row in range(0, len(reconstructed), _ROWS):
        for column in range(0, len(seen), _ROWS):
            block = np.s_[row : row + _ROWS, column : column + _ROWS]
            found[block] = correlate(reconstructed[row : row + _ROWS], seen[column : column + _ROWS])
    return found


def _check_places(own: Places | None, items: int, pictures: int, fewest: int = 2) -> Places:
    places = np.arange(items) if own is None else np.asarray(own, np.intp)
    holds = len(places) == items and pictures >= fewest and items > 0
    if not holds or (own is None and items != pictures) or not 0 <= places.min() <= places.max() < pictures:
        raise BadInput(
            f"{items} reconstructions, a gallery of {pictures}, {len(places)} places",
            f"one row of a gallery of {fewest} or more for every reconstruction",
            "Give the pictures once, and say which of them each reconstruction is of.",
        )
    return places
