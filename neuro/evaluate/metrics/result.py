"""A score with all that one has to know to compare it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.metrics.table import METRICS, MetricRow

Scores = NDArray[np.float64]
Aggregate = Literal["mean over pictures", "whole set"]


@dataclass(frozen=True)
class Conditions:
    """What a score was computed on.

    Parameters
    ----------
    preprocessing : what was done to pictures, tokens or captions
    network, layer : that gave the features; empty where none did
    weights_sha256 : of the network
    reference_set : what captions were compared with
    gallery : items that the right one had to be told from, itself included; None where there are none
    implementation : library, where libraries differ
    """

    preprocessing: str
    network: str = ""
    layer: str = ""
    weights_sha256: str = ""
    reference_set: str = ""
    gallery: int | None = None
    implementation: str = ""


@dataclass(frozen=True, eq=False)
class MetricResult:
    """A score.

    Parameters
    ----------
    name : key of `METRICS`
    scores : array (picture,), one a picture against a fixed gallery, so that pictures may be resampled
    value : the score
    aggregate : how the value follows from the pictures; not from `scores` where it is of the whole set
    chance : what a guess reaches; None where it must be measured
    conditions : what it was computed on
    interval : low and high of 95 % where the published protocol has its own; else resample `scores`

    Raises
    ------
    BadInput
        The name is not in the table, or a score is not finite.
    """

    name: str
    scores: Scores
    value: float
    aggregate: Aggregate
    chance: float | None
    conditions: Conditions
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.name not in METRICS:
            raise BadInput(f"the score {self.name!r}", f"one of {', '.join(METRICS)}", "Correct the name.")
        if self.scores.ndim != 1 or not len(self.scores) or not bool(np.isfinite([*self.scores, self.value]).all()):
            raise BadInput(
                f"scores of shape {self.scores.shape}, {int((~np.isfinite(self.scores)).sum())} of them not finite",
                "one finite number a picture",
                "Leave out the pictures that gave none, and say so.",
            )

    @property
    def row(self) -> MetricRow:
        """What is known of this kind of score."""
        return METRICS[self.name]

    @property
    def higher_is_better(self) -> bool:
        """The direction."""
        return self.row.higher_is_better

    @property
    def validity(self) -> str:
        """How far people agree with it."""
        return self.row.validity

    @property
    def mean(self) -> float:
        """The mean over pictures, which is what resampling pictures speaks of."""
        return float(self.scores.mean())

    def describe(self) -> dict[str, Any]:
        """Return all but the scores of single pictures, as JSON values."""
        return {
            "name": self.name,
            "title": self.row.title,
            "value": self.value,
            "aggregate": self.aggregate,
            "n": len(self.scores),
            "higher_is_better": self.higher_is_better,
            "chance": self.chance,
            "interval": self.interval,
            "low_validity": self.row.low_validity,
            "validity": self.validity,
            **asdict(self.conditions),
        }


def average(name: str, scores: NDArray[np.floating[Any]], chance: float | None, conditions: Conditions) -> MetricResult:
    """Return the score that is the mean over pictures."""
    values = np.asarray(scores, np.float64)
    value = float(values.mean()) if values.size else float("nan")
    return MetricResult(name, values, value, "mean over pictures", chance, conditions)


def order_results(results: "list[MetricResult]") -> "list[MetricResult]":
    """Return scores in the order of the table, those that agree with people first."""
    place = {name: number for number, name in enumerate(METRICS)}
    return sorted(results, key=lambda result: place[result.name])
