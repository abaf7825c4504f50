"""Two runs against each other, many p-values at once, and scores against the distance to what was trained on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import ClipTokens
from voxelight.neuro.evaluate.intervals import bootstrap_mean
from voxelight.neuro.retrieve import find_cosine
from voxelight.neuro.splits import Labels

Floats = NDArray[np.floating[Any]]

FEWEST_PICTURES = 5


@dataclass(frozen=True)
class PairedTest:
    """How much one run is better than another on the same pictures.

    Parameters
    ----------
    metric : its name
    first, second : mean scores
    difference, low, high : mean of first minus second with its 95 % bootstrap interval
    p : of Wilcoxon's signed-rank test, two-sided; 1 where every difference is zero
    q : the p-value among those of all metrics (Benjamini and Hochberg); the p-value itself where there is one metric
    n : pictures
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    q: float
    n: int


@dataclass(frozen=True, eq=False)
class Curve:
    """A score along something.

    Parameters
    ----------
    title, x_label, y_label : for the figure
    x : array (point,)
    y, low, high : array (point,), mean and 95 % interval over pictures
    n : array (point,), pictures in each point
    level : horizontal line to read the curve by, e.g. chance; None without one
    """

    title: str
    x_label: str
    y_label: str
    x: Floats
    y: Floats
    low: Floats
    high: Floats
    n: NDArray[np.intp]
    level: float | None = None


def compare_paired(metric: str, first: Floats, second: Floats, clusters: Labels, seed: int = 0) -> PairedTest:
    """Compare two runs picture by picture.

    Parameters
    ----------
    metric : its name
    first, second : array (picture,), scores of the same pictures in the same order, see `align_pictures`
    clusters : array (picture,), what is drawn whole in the bootstrap: the picture, or the unit it was held out with
    seed : of the 2000 draws

    Raises
    ------
    BadInput
        The numbers of pictures differ, or are below five.
    """
    if not len(first) == len(second) == len(clusters) or len(first) < FEWEST_PICTURES:
        raise BadInput(
            f"{len(first)} and {len(second)} scores of {len(clusters)} pictures",
            f"one of each run for every picture, {FEWEST_PICTURES} or more",
            "Compare runs on the same pictures.",
        )
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    low, high = bootstrap_mean(difference, clusters, 2000, seed)
    p = float(scipy.stats.wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    return PairedTest(
        metric, float(first.mean()), float(second.mean()), float(difference.mean()), low, high, p, p, len(first)
    )


def align_pictures(first_ids: Labels, second_ids: Labels) -> NDArray[np.intp]:
    """Return the row of the second run for every picture of the first.

    Raises
    ------
    BadInput
        The runs do not hold the same pictures, each once.
    """
    place = {name: row for row, name in enumerate(second_ids.tolist())}
    apart = sorted(set(first_ids.tolist()) ^ set(place))
    doubled = len(first_ids) + len(second_ids) - len(set(first_ids.tolist())) - len(place)
    if apart or doubled:
        raise BadInput(
            f"{len(apart)} pictures in one run only{f', {apart[0]} for one' if apart else ''}, {doubled} twice in one",
            "the same pictures in both, each once",
            "Compare runs on the same test set: a difference between test sets is none between decoders.",
        )
    return np.array([place[name] for name in first_ids.tolist()], dtype=np.intp)


def adjust_p(p: Floats) -> NDArray[np.float64]:
    """Adjust p-values so that q <= a keeps the false discovery rate at a (Benjamini and Hochberg 1995).

    q_(i) = min over j >= i of p_(j) m / j, of sorted p-values.

    Parameters
    ----------
    p : array (test,), each in [0, 1]; over regions, metrics, or both together

    Returns
    -------
    array (test,)

    Raises
    ------
    BadInput
        A value is no probability.
    """
    p = np.asarray(p, np.float64)
    if not len(p):
        return p.astype(np.float64)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise BadInput(
            f"p-values from {np.min(p)} to {np.max(p)}", "values from 0 to 1", "Leave out tests without one."
        )
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return adjusted


def find_distance(test: ClipTokens, train: ClipTokens) -> NDArray[np.float64]:
    """Return the cosine distance of each held-out picture to the nearest training picture, array (picture,)."""
    distance: NDArray[np.float64] = 1 - find_cosine(test, train).max(1).astype(np.float64)
    return distance


def score_by_distance(scores: Floats, distance: Floats, bins: int = 5, seed: int = 0) -> Curve:
    """Average scores over bins of equally many pictures, from those close to the training set to those far from it.

    A score that falls with the distance speaks of the training set as much as of the brain (Shirakawa et al. 2025).

    Parameters
    ----------
    scores : array (picture,)
    distance : array (picture,), to the nearest training picture
    bins : at most; each holds five pictures or more
    seed : of the bootstrap

    Raises
    ------
    BadInput
        There are fewer pictures than fill two bins.
    """
    bins = min(bins, len(scores) // FEWEST_PICTURES)
    if bins < 2 or len(scores) != len(distance):
        raise BadInput(
            f"{len(scores)} scores and {len(distance)} distances",
            f"one of each a picture, {2 * FEWEST_PICTURES} or more",
            "Score more pictures, or leave the curve out.",
        )
    parts = np.array_split(np.argsort(distance, kind="stable"), bins)
    limits = [bootstrap_mean(scores[rows], rows.astype(str), 2000, seed) for rows in parts]
    return Curve(
        title="Score by distance to the nearest training picture",
        x_label="distance to the nearest training picture",
        y_label="score",
        x=np.array([distance[rows].mean() for rows in parts]),
        y=np.array([scores[rows].mean() for rows in parts]),
        low=np.array([low for low, _ in limits]),
        high=np.array([high for _, high in limits]),
        n=np.array([len(rows) for rows in parts], dtype=np.intp),
    )
