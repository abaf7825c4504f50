"""One structure over time: how much it changed, how certain that is, and whether measuring again could give it too."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from voxelight.models.errors import BadInput

_Z = 1.959963984540054
_YEAR = 365.25

Source = Literal["spread", "stated", "none"]


@dataclass(frozen=True)
class Timepoint:
    """A volume at one visit.

    Parameters
    ----------
    session : label of the visit
    volume_ml : what was segmented
    low_ml, high_ml : 95 % interval from the spread of folds or of test-time augmentation, where it was stored
    day : days since any one moment, where known
    """

    session: str
    volume_ml: float
    low_ml: float | None = None
    high_ml: float | None = None
    day: float | None = None

    @property
    def sd_ml(self) -> float | None:
        """Standard deviation of the volume, ml; None where no spread was stored."""
        if self.low_ml is None or self.high_ml is None:
            return None
        return (self.high_ml - self.low_ml) / (2 * _Z)


@dataclass(frozen=True)
class MinimalChange:
    """The least change that is more than two scans of one day differ by, 95 % of the time, as scan-rescan data gave it.

    Parameters
    ----------
    ml, percent : at least one; percent is of the mean of the two volumes, and the larger of the two holds

    Raises
    ------
    BadInput
        Neither is given, or one is negative or not finite.
    """

    ml: float | None = None
    percent: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.ml, self.percent) if value is not None]
        if not given or not all(math.isfinite(value) and value >= 0 for value in given):
            raise BadInput(
                f"a minimal change of {self.ml} ml and {self.percent} %",
                "one that is known from scan and rescan, zero or more",
                "State it in ml or in percent.",
            )

    def between(self, first_ml: float, second_ml: float) -> float:
        """Return the least change between two volumes that counts, ml."""
        return max(self.ml or 0.0, (self.percent or 0.0) / 100 * (first_ml + second_ml) / 2)


@dataclass(frozen=True)
class Growth:
    """What happened from one visit to another.

    Parameters
    ----------
    start, end : sessions
    change_ml : end minus start
    low_ml, high_ml : 95 % interval of the change; None where nothing is known of it
    change_percent : of the volume at the start; None where that is zero
    detectable_ml : the minimal detectable change; None where nothing is known of it
    beyond : whether the change is larger than that; None where it can't be told
    source : where the interval comes from: `spread` of folds or test-time augmentation, `stated` from scan and rescan
    doubling_days : time to double at this pace, negative where it shrinks; None without days, or without a change
    percent_per_year, low_percent_per_year, high_percent_per_year : pace with its interval; None without days
    """

    start: str
    end: str
    change_ml: float
    low_ml: float | None
    high_ml: float | None
    change_percent: float | None
    detectable_ml: float | None
    beyond: bool | None
    source: Source
    doubling_days: float | None = None
    percent_per_year: float | None = None
    low_percent_per_year: float | None = None
    high_percent_per_year: float | None = None


def find_growth(start: Timepoint, end: Timepoint, stated: MinimalChange | None = None) -> Growth:
    r"""Compare two visits.

    The interval of the change is :math:`d \pm 1.96\sqrt{s_1^2 + s_2^2}` where both volumes have a spread, else
    :math:`d \pm` the minimal change that was stated; the two volumes are taken as independent. A change counts only
    beyond the minimal detectable change (:math:`1.96\sqrt 2\,\mathrm{SEM}` for equal errors, Weir 2005), and where both
    are known beyond the larger of the two: a spread of networks knows nothing of how a second scan would differ.
    Doubling time is :math:`\Delta t \ln 2 / \ln(v_2 / v_1)` (Schwartz 1961).

    Parameters
    ----------
    start, end : the two visits
    stated : from scan-rescan data, where the person knows it

    Returns
    -------
    Growth
    """
    change = end.volume_ml - start.volume_ml
    spread = _combine(start.sd_ml, end.sd_ml)
    wide = stated.between(start.volume_ml, end.volume_ml) if stated else None
    half = wide if spread is None else spread
    known = [value for value in (spread, wide) if value is not None]
    detectable = max(known, default=None)
    source: Source = "spread" if spread is not None else "stated" if wide is not None else "none"
    pace = _find_pace(start, end, half)
    return Growth(
        start=start.session,
        end=end.session,
        change_ml=change,
        low_ml=None if half is None else change - half,
        high_ml=None if half is None else change + half,
        change_percent=100 * change / start.volume_ml if start.volume_ml > 0 else None,
        detectable_ml=detectable,
        beyond=None if detectable is None else abs(change) > detectable,
        source=source,
        **pace,
    )


def follow(points: Sequence[Timepoint], stated: MinimalChange | None = None) -> list[Growth]:
    """Compare each visit with the one before, and the last with the first where there are more than two.

    Raises
    ------
    BadInput
        A session is named twice, or the days do not rise.
    """
    names = [point.session for point in points]
    days = [point.day for point in points if point.day is not None]
    if len(set(names)) < len(names) or any(later <= sooner for sooner, later in pairwise(days)):
        raise BadInput(
            f"the sessions {', '.join(names)}{f' on days {days}' if days else ''}",
            "one volume a session, each later than the one before",
            "Correct the order or the days.",
        )
    steps = [find_growth(*pair, stated) for pair in pairwise(points)]
    return [*steps, find_growth(points[0], points[-1], stated)] if len(points) > 2 else steps


def _combine(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else _Z * math.hypot(first, second)


def _find_pace(start: Timepoint, end: Timepoint, half: float | None) -> dict[str, float | None]:
    if start.day is None or end.day is None or min(start.volume_ml, end.volume_ml) <= 0:
        return {}
    days, ratio = end.day - start.day, math.log(end.volume_ml / start.volume_ml)
    pace: dict[str, float | None] = {
        "doubling_days": days * math.log(2) / ratio if ratio else None,
        "percent_per_year": _of_a_year(ratio, days),
    }
    wide = _find_log_half(start, end, half)
    if wide is not None:
        pace["low_percent_per_year"] = _of_a_year(ratio - wide, days)
        pace["high_percent_per_year"] = _of_a_year(ratio + wide, days)
    return pace


def _find_log_half(start: Timepoint, end: Timepoint, half: float | None) -> float | None:
    """Return the half width of the interval of the log ratio, to first order."""
    if start.sd_ml is not None and end.sd_ml is not None:
        return _Z * math.hypot(start.sd_ml / start.volume_ml, end.sd_ml / end.volume_ml)
    return None if half is None else half / ((start.volume_ml + end.volume_ml) / 2)


def _of_a_year(log_ratio: float, days: float) -> float | None:
    """Return the change in percent a year at this pace; None where it runs out of numbers."""
    exponent = log_ratio / days * _YEAR
    return 100 * math.expm1(exponent) if exponent < 50 else None
