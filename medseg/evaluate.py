"""Scores of label maps, and differences between two segmenters with their interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput


def dice(found: NDArray[Any], reference: NDArray[Any], *labels: int) -> float:
    r"""Return the Dice coefficient of one label, or of several as one, :math:`2|A \cap B| / (|A| + |B|)` (Dice 1945).

    Parameters
    ----------
    found, reference : array (i, j, k), label numbers
    labels : what to compare

    Returns
    -------
    float in [0, 1]; NaN where neither holds a label, since there is nothing to agree on

    Raises
    ------
    BadInput
        The two differ in shape.
    """
    if found.shape != reference.shape:
        raise BadInput(
            f"label maps of shapes {found.shape} and {reference.shape}", "one grid", "Resample one to the other's grid."
        )
    a, b = np.isin(found, labels), np.isin(reference, labels)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / total) if total else float("nan")


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval.

    Parameters
    ----------
    estimate : mean over persons of each person's mean
    low, high : ends of the interval
    persons : how many persons were resampled
    """

    estimate: float
    low: float
    high: float
    persons: int


def mean_by_person(
    scores: Mapping[str, float],
    person_of: Mapping[str, str],
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Average scores with a percentile bootstrap over persons (Efron and Tibshirani 1993, section 13.3).

    Parameters
    ----------
    scores : case -> score, or difference of two scores of that case
    person_of : case -> person; cases of one person are drawn together
    seed : of the resampling
    draws : resamples
    level : coverage of the interval

    Raises
    ------
    BadInput
        There is no case, or a case names no person.
    """
    nameless = sorted(set(scores) - set(person_of))
    if not scores or nameless:
        raise BadInput(f"{len(scores)} cases, {len(nameless)} without a person", "at least one case, each of a person",
                       "Name the person of every case.")  # fmt: skip
    groups: dict[str, list[float]] = {}
    for case, score in scores.items():
        groups.setdefault(person_of[case], []).append(score)
    means = np.array([np.mean(group) for group in groups.values()])
    picks = np.random.default_rng(seed).integers(len(means), size=(draws, len(means)))
    low, high = np.quantile(means[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(means.mean()), float(low), float(high), len(means))


def paired_difference(
    ours: Mapping[str, float], theirs: Mapping[str, float], person_of: Mapping[str, str], seed: int
) -> Interval:
    """Average the difference of two segmenters on the same cases, by person.

    Raises
    ------
    BadInput
        The two were not scored on the same cases.
    """
    if set(ours) != set(theirs):
        raise BadInput(
            f"{len(set(ours) ^ set(theirs))} cases that only one of the two was scored on",
            "the same cases on both sides",
            "Score both on one list of cases.",
        )
    return mean_by_person({case: ours[case] - theirs[case] for case in ours}, person_of, seed)


def dice_by_case(
    found: Sequence[NDArray[Any]], references: Sequence[NDArray[Any]], labels: Mapping[str, Sequence[int]]
) -> list[dict[str, float]]:
    """Return ``name -> Dice`` for each case.

    Parameters
    ----------
    found, references : arrays (i, j, k), label numbers
    labels : name -> numbers that count as one, such as those of a region
    """
    return [
        {name: dice(one, reference, *numbers) for name, numbers in labels.items()}
        for one, reference in zip(found, references, strict=True)
    ]
