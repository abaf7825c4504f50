"""Agreement across seeds: where samples of one trial differ, the generator filled in what the brain did not say.

Agreement alone promises nothing: a strong prior may agree with itself on the wrong picture. `fit_agreement` learns on
held-out trials what a given agreement was worth, and its promise is checked by coverage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.similarity import correlate
from voxelight.neuro.evaluate.uncertainty import find_rank

Floats = NDArray[np.floating[Any]]

FEWEST_TRIALS = 10


def map_deviation(samples: Floats) -> NDArray[np.float64]:
    """Return the standard deviation over seeds, averaged over channels: array (item, row, column).

    Parameters
    ----------
    samples : array (item, seed, row, column, channel), two seeds or more; or tokens (item, seed, token, dim, 1)

    Raises
    ------
    BadInput
        There is one seed only.
    """
    _require_seeds(samples.shape[1])
    deviation: NDArray[np.float64] = samples.std(1, ddof=1, dtype=np.float64).mean(-1)
    return deviation


def agree_pictures(samples: Floats) -> NDArray[np.float64]:
    """Return the mean correlation between the samples of each item: array (item,).

    Parameters
    ----------
    samples : array (item, seed, ...), pictures or tokens
    """
    _require_seeds(samples.shape[1])
    above = np.triu_indices(samples.shape[1], 1)
    return np.array([correlate(each, each)[above].mean() for each in samples])


def agree_captions(captions: Sequence[Sequence[str]], similarity: Callable[[str, str], float]) -> NDArray[np.float64]:
    """Return the mean similarity between the captions of each item: array (item,).

    Parameters
    ----------
    captions : those of each seed, item by item
    similarity : (caption, caption) -> 0 to 1, e.g. `share_words`
    """
    for each in captions:
        _require_seeds(len(each))
    return np.array([np.mean([similarity(a, b) for a, b in combinations(each, 2)]) for each in captions])


def share_words(first: str, second: str) -> float:
    """Return the share of distinct words that two captions have in common: |A & B| / |A | B| (Jaccard 1901)."""
    a, b = set(first.lower().split()), set(second.lower().split())
    return len(a & b) / len(a | b) if a | b else 1.0


@dataclass(frozen=True, eq=False)
class AgreementScale:
    """What an agreement across seeds was worth on held-out trials.

    Parameters
    ----------
    slope, intercept : expected score = intercept + slope * agreement, least squares
    errors : array (trial,), sorted absolute errors of trials that the line was not fitted on
    """

    slope: float
    intercept: float
    errors: NDArray[np.float64]

    def expect(self, agreement: Floats) -> NDArray[np.float64]:
        """Return the expected score of each item, array (item,)."""
        return self.intercept + self.slope * np.asarray(agreement, np.float64)

    def interval(self, agreement: Floats, level: float = 0.9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return low and high of the score of each item, array (item,) each (split conformal, Lei et al. 2018)."""
        expected, half = self.expect(agreement), self.errors[find_rank(len(self.errors), level)]
        return expected - half, expected + half


def fit_agreement(agreement: Floats, scores: Floats, seed: int = 0) -> AgreementScale:
    """Learn on held-out trials how the score of an item goes with the agreement of its samples.

    The line is fitted on one half of them, and its errors are taken from the other.

    Parameters
    ----------
    agreement, scores : array (trial,), trials that no network was fitted on
    seed : of the halves

    Raises
    ------
    BadInput
        There are fewer than twenty trials.
    """
    if len(agreement) != len(scores) or len(scores) < 2 * FEWEST_TRIALS:
        raise BadInput(
            f"{len(agreement)} agreements and {len(scores)} scores",
            f"one of each for {2 * FEWEST_TRIALS} trials or more",
            "Hold out more trials.",
        )
    order = np.random.default_rng(seed).permutation(len(scores))
    line, rest = order[: len(order) // 2], order[len(order) // 2 :]
    varies = np.ptp(agreement[line]) > 0
    slope, intercept = np.polyfit(agreement[line], scores[line], 1) if varies else (0.0, scores[line].mean())
    errors = np.sort(np.abs(scores[rest] - intercept - slope * agreement[rest]))
    return AgreementScale(float(slope), float(intercept), errors)


@dataclass(frozen=True)
class PixelScale:
    """How many standard deviations over seeds hold a share of the true pixels.

    Parameters
    ----------
    factor : half the width of the interval in deviations over seeds
    floor : added to the deviation, so that pixels on which all seeds agree have an interval too
    """

    factor: float
    floor: float

    def interval(self, samples: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return low and high of each pixel, array (item, row, column, channel) each."""
        mean, deviation = _mean_and_deviation(samples)
        half = self.factor * (deviation + self.floor)
        return mean - half, mean + half


def fit_pixel_scale(samples: Floats, truth: Floats, level: float = 0.9, floor: float = 0.02) -> PixelScale:
    """Widen the deviation over seeds until it holds the share of the true pixels that is promised.

    Parameters
    ----------
    samples : array (item, seed, row, column, channel), of trials that no network was fitted on
    truth : array (item, row, column, channel)
    level : share of the pixels of a picture, on average over pictures
    floor : see `PixelScale`
    """
    mean, deviation = _mean_and_deviation(samples)
    errors = np.abs(truth - mean) / (deviation + floor)
    return PixelScale(float(np.quantile(errors, level)), floor)


def _mean_and_deviation(samples: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _require_seeds(samples.shape[1])
    return samples.mean(1, dtype=np.float64), samples.std(1, ddof=1, dtype=np.float64)


def _require_seeds(count: int) -> None:
    if count < 2:
        raise BadInput(f"{count} sample of each stimulus", "two seeds or more", "Sample again with other seeds.")
