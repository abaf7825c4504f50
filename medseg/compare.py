"""Whether one run is better than another on the same cases."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats

from voxelight.medseg.evaluate import Interval, paired_difference
from voxelight.models.errors import BadInput

_LEVEL = 0.95


@dataclass(frozen=True)
class PairedTest:
    """A difference, first run minus second, with its interval and the probability of one as large by chance.

    Parameters
    ----------
    test : `wilcoxon` (signed rank over persons) or `nadeau_bengio` (corrected t over folds)
    difference, low, high : mean difference and its 95 % interval
    p : two-sided
    pairs : persons or folds
    """

    test: Literal["wilcoxon", "nadeau_bengio"]
    difference: float
    low: float
    high: float
    p: float
    pairs: int


def wilcoxon(
    ours: Mapping[str, float], theirs: Mapping[str, float], person_of: Mapping[str, str], seed: int = 0
) -> PairedTest:
    """Compare two runs by Wilcoxon's signed-rank test over persons; the interval is a bootstrap over persons.

    Parameters
    ----------
    ours, theirs : case -> score, on the same cases
    person_of : case -> person; the cases of a person count once, by their mean
    seed : of the bootstrap

    Raises
    ------
    BadInput
        The two were not scored on the same cases, or a case names no person.
    """
    interval: Interval = paired_difference(ours, theirs, person_of, seed)
    grouped: dict[str, list[float]] = defaultdict(list)
    for case in ours:
        grouped[person_of[case]].append(ours[case] - theirs[case])
    apart = np.array([np.mean(group) for group in grouped.values()])
    p = float(scipy.stats.wilcoxon(apart).pvalue) if np.any(apart) else 1.0
    return PairedTest("wilcoxon", interval.estimate, interval.low, interval.high, p, len(apart))


def nadeau_bengio(differences: Sequence[float], test_cases: float, train_cases: float) -> PairedTest:
    r"""Compare two runs over the folds of a cross-validation (Nadeau and Bengio 2003, the corrected resampled t-test).

    Training sets of folds overlap, so their differences are no independent draws. The variance is taken as
    :math:`(1/k + n_2/n_1) s^2` in place of :math:`s^2/k`, with k folds, n1 training and n2 held-out cases.

    Parameters
    ----------
    differences : mean difference of each fold
    test_cases, train_cases : cases held out and trained on in a fold, their means where folds differ

    Raises
    ------
    BadInput
        There are fewer than two folds, or no training cases.
    """
    count = len(differences)
    if count < 2 or train_cases <= 0:
        raise BadInput(f"{count} folds with {train_cases:g} training cases", "at least two folds of a cross-validation",
                       "Compare within one fold over persons.")  # fmt: skip
    mean, variance = float(np.mean(differences)), float(np.var(differences, ddof=1))
    error = math.sqrt((1 / count + test_cases / train_cases) * variance)
    if error == 0:
        return PairedTest("nadeau_bengio", mean, mean, mean, 1.0 if mean == 0 else 0.0, count)
    half = float(scipy.stats.t.ppf((1 + _LEVEL) / 2, count - 1)) * error
    p = float(2 * scipy.stats.t.sf(abs(mean / error), count - 1))
    return PairedTest("nadeau_bengio", mean, mean - half, mean + half, p, count)


def find_fold_differences(
    ours: Mapping[str, float], theirs: Mapping[str, float], folds: Sequence[Sequence[str]]
) -> list[float]:
    """Return the mean difference of each fold over the cases that both runs were scored on.

    Raises
    ------
    BadInput
        A fold has no such case.
    """
    means = []
    for number, fold in enumerate(folds):
        apart = [ours[case] - theirs[case] for case in fold if case in ours and case in theirs]
        if not apart:
            raise BadInput(
                f"fold {number} without a case that both were scored on", "one at least", "Score every fold."
            )
        means.append(float(np.mean(apart)))
    return means
