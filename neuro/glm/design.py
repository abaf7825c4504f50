"""The design of a run: when volumes were taken, what was shown when, and what is no response."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.glm.hrf import Hrf

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.str_]

_MEASURED_SHARE = 0.25  # of the largest response in the run: a trial with less was shown too late
_ROBUST_Z = 3.5
_MAD_TO_STD = 1.4826
_LOOKED_AT = 20  # volumes in which a magnetisation that is not steady could show
_STEADY_AT_LEAST = 10


@dataclass(frozen=True)
class Timing:
    """When the volumes of a run were taken.

    Parameters
    ----------
    repetition_s : from one volume to the next, s
    volumes : how many
    start_s : at which time of the run the first volume stands, s: half a repetition where slice timing was corrected
        to the middle of the volume

    Raises
    ------
    BadInput
        The repetition time is not positive, or looks like milliseconds.
    """

    repetition_s: float
    volumes: int
    start_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.repetition_s < 100 or self.volumes < 1:
            raise BadInput(
                f"{self.volumes} volumes at a repetition time of {self.repetition_s:g} s",
                "one volume or more, and a repetition time in seconds",
                "Correct RepetitionTime, which is in seconds and not in milliseconds.",
            )

    @property
    def times(self) -> Floats:
        """Time of each volume: array (volume,), s."""
        return self.start_s + self.repetition_s * np.arange(self.volumes)

    @property
    def end_s(self) -> float:
        """When the last volume has been taken, s."""
        return self.repetition_s * self.volumes


@dataclass(frozen=True, eq=False)
class Events:
    """What was shown in a run.

    Parameters
    ----------
    onsets, durations : array (trial,), s from the first volume, on the grid of volumes or not
    stimulus_ids : array (trial,), str

    Raises
    ------
    BadInput
        The parts differ in length, are empty, or a time is negative or no number.
    """

    onsets: Floats
    durations: Floats
    stimulus_ids: Labels

    def __post_init__(self) -> None:
        shapes = {np.shape(part) for part in (self.onsets, self.durations, self.stimulus_ids)}
        if len(shapes) != 1 or self.onsets.ndim != 1 or not len(self.onsets):
            raise BadInput(
                f"events with parts of the shapes {sorted(shapes)}",
                "an onset, a duration and a stimulus for each trial",
                "Check the table of events.",
            )
        wrong = ~(np.isfinite(self.onsets) & np.isfinite(self.durations)) | (self.durations < 0) | (self.onsets < 0)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise BadInput(
                f"{int(wrong.sum())} events whose onset or duration is negative or no number, the first in row "
                f"{first + 1}: onset {self.onsets[first]:g} s, duration {self.durations[first]:g} s",
                "times in seconds from the first volume, 0 or more",
                "Correct the table; what came before the first volume can't be estimated.",
            )

    def check_end(self, timing: Timing, run: str) -> None:
        """Refuse events that begin when the run is over.

        Raises
        ------
        BadInput
            There is one.
        """
        late = np.flatnonzero(self.onsets >= timing.end_s)
        if len(late):
            raise BadInput(
                f"{len(late)} of {len(self.onsets)} events past the end of {run}, the first at "
                f"{self.onsets[late[0]]:g} s; the run has {timing.volumes} volumes of {timing.repetition_s:g} s and "
                f"ends at {timing.end_s:g} s",
                "onsets inside the run",
                "Check that events and images belong to one run, that onsets are seconds, and that none was cut off.",
            )


@dataclass(frozen=True, eq=False)
class Run:
    """One run of one session as the estimation takes it.

    Parameters
    ----------
    name : e.g. ``run-01``
    bold : array (volume, voxel), in memory or mapped; read in blocks of voxels
    timing : Timing
    events : Events
    confounds : array (volume, confound), standardised by the reader or not; none by default
    non_steady : volumes at the start whose magnetisation is not steady, which are left out of every fit
    """

    name: str
    bold: Floats
    timing: Timing
    events: Events
    confounds: Floats | None = None
    non_steady: int = 0
    labels: dict[str, Labels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = {"volumes": self.timing.volumes, "rows of BOLD": len(self.bold)}
        if self.confounds is not None:
            rows["rows of confounds"] = len(self.confounds)
        if self.bold.ndim != 2 or len(set(rows.values())) != 1:
            raise BadInput(
                f"{self.name} with " + ", ".join(f"{count} {what}" for what, count in rows.items()),
                "one of each for every volume",
                "Check that images and confounds belong to one run.",
            )
        self.events.check_end(self.timing, self.name)


def design_trials(events: Events, timing: Timing, hrf: Hrf, reference_s: float) -> Floats:
    """Return what each trial adds to the signal.

    Parameters
    ----------
    events : Events
    timing : Timing
    hrf : Hrf
    reference_s : duration of the event whose response has height 1, s

    Returns
    -------
    array (volume, trial)
        Events that last longer add more; where all last alike, betas are heights of the response.
    """
    times, height = timing.times, hrf.height(reference_s)
    pairs = zip(events.onsets.tolist(), events.durations.tolist(), strict=True)
    return np.stack([hrf.respond(times, onset, duration) for onset, duration in pairs], axis=1) / height


def find_measured(events: Events, timing: Timing, hrf: Hrf) -> NDArray[np.bool_]:
    """Return which trials had time to answer before the run ended: array (trial,).

    A trial of which less than a quarter of the height was measured can't be estimated.
    """
    heights = {duration: hrf.height(duration) for duration in set(events.durations.tolist())}
    pairs = zip(events.onsets.tolist(), events.durations.tolist(), strict=True)
    shares = [hrf.respond(timing.times, onset, last).max() / heights[last] for onset, last in pairs]
    return np.array(shares) >= _MEASURED_SHARE


def basis_of(columns: Floats) -> Floats:
    """Return an orthonormal basis of what the columns span: array (volume, dimension)."""
    lengths = np.linalg.norm(columns, axis=0)
    columns = columns[:, lengths > 0] / lengths[lengths > 0]
    if not columns.shape[1]:
        return np.zeros((len(columns), 0))
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    kept: Floats = u[:, s > 1e-8 * s[0]]
    return kept


def nuisance_of(run: Run, degree: int | None = None) -> Floats:
    """Return what is no response in a run, as an orthonormal basis.

    Drift as Legendre polynomials up to a degree, by default half the length of the run in minutes; confounds; and a
    regressor for each volume whose magnetisation is not steady, which leaves it out.

    Parameters
    ----------
    run : Run
    degree : of the polynomials

    Returns
    -------
    array (volume, dimension)
    """
    volumes = run.timing.volumes
    degree = round(run.timing.end_s / 60 / 2) if degree is None else degree
    columns = [legendre.legvander(np.linspace(-1, 1, volumes), degree)]
    if run.confounds is not None and run.confounds.shape[1]:
        columns.append(np.asarray(run.confounds, dtype=np.float64))
    columns.append(np.eye(volumes)[:, : run.non_steady])
    return basis_of(np.concatenate(columns, axis=1))


def find_non_steady(signal: Floats) -> int:
    """Return how many volumes at the start stand out of the mean signal, as those before steady magnetisation do.

    A volume stands out where its distance from the median of the first volumes is more than 3.5 robust standard
    deviations (Iglewicz and Hoaglin 1993); the count stops at the first that does not.

    Parameters
    ----------
    signal : array (volume,), mean over the voxels
    """
    first = np.asarray(signal[:_LOOKED_AT], dtype=np.float64)
    if len(first) < _STEADY_AT_LEAST:
        return 0
    median = float(np.median(first))
    spread = _MAD_TO_STD * float(np.median(np.abs(first - median)))
    out = np.abs(first - median) > _ROBUST_Z * max(spread, 1e-6 * abs(median))
    count = int(np.argmin(out)) if not out.all() else 0
    return min(count, len(first) // 2)


def reference_duration(runs: Sequence[Run]) -> float:
    """Return the median duration of the events of all runs, s."""
    return float(np.median(np.concatenate([run.events.durations for run in runs])))
