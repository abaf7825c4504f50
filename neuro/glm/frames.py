"""A run as the estimation sees it: whitened, in percent, and with nuisance and designs at hand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from voxelight.models.errors import BadInput
from voxelight.neuro.glm.design import Run, basis_of, design_trials, find_measured, nuisance_of, reference_duration
from voxelight.neuro.glm.hrf import CANONICAL, Hrf
from voxelight.neuro.glm.options import GlmOptions
from voxelight.neuro.glm.solve import remove

Floats = NDArray[np.floating[Any]]

_SAMPLE = 400  # voxels from which the autoregression of a run is taken
_MOST = 0.95
_CENTRED = 0.3  # share of voxels without a positive mean above which a signal counts as centred


@dataclass(frozen=True, eq=False)
class Frame:
    """One run, ready for least squares.

    Parameters
    ----------
    run : Run, of trials that were measured
    rho : coefficient by which volumes are whitened, 0 for not at all
    basis : array (volume, dimension), orthonormal: nuisance, whitened
    components : array (volume, component), orthonormal to the basis: of voxels without a response, the largest first
    designs : for each response an array (volume, trial), whitened
    percent : whether the signal is turned to percent of its mean
    left_out : trials that the end of the run cut off
    """

    run: Run
    rho: float
    basis: Floats
    components: Floats
    designs: tuple[Floats, ...]
    percent: bool
    left_out: int = 0

    def load(self, voxels: slice | NDArray[np.intp]) -> Floats:
        """Return the signal of some voxels, whitened and without nuisance: array (volume, voxel)."""
        return remove(self.basis, whiten(scale(self.run.bold, voxels, self.percent), self.rho))

    def find_basis(self, count: int) -> Floats:
        """Return an orthonormal basis of nuisance and the first components: array (volume, dimension)."""
        return np.concatenate([self.basis, self.components[:, :count]], axis=1)

    def find_design(self, response: int, count: int = 0) -> Floats:
        """Return the design of a response without nuisance and the first components: array (volume, trial)."""
        return remove(self.find_basis(count), self.designs[response])

    @property
    def free(self) -> int:
        """Volumes that nuisance leaves."""
        return int(len(self.basis) - self.basis.shape[1])


def scale(bold: Floats, voxels: slice | NDArray[np.intp], percent: bool) -> Floats:
    """Return signals as percent of their mean, or as they are; a voxel whose mean is not positive becomes 0."""
    signal = np.asarray(bold[:, voxels], dtype=np.float64)
    if not percent:
        return signal
    mean = signal.mean(0)
    dead = mean <= 0
    changed: Floats = np.where(dead, 0.0, 100 * (signal / np.where(dead, 1.0, mean) - 1))
    return changed


def whiten(columns: Floats, rho: float) -> Floats:
    """Return columns whose autoregression of first order is taken out: y[t] - rho y[t-1], the first scaled alike."""
    white = np.array(columns, dtype=np.float64)
    if rho:
        white[1:] -= rho * np.asarray(columns)[:-1]
        white[0] *= np.sqrt(1 - rho**2)
    return white


def make_frames(runs: Sequence[Run], responses: Sequence[Hrf], options: GlmOptions) -> list[Frame]:
    """Make frames of the runs of one session, without components.

    Raises
    ------
    BadInput
        There is no run, runs differ in their voxels, or a run has no trial that was measured or no volume to spare.
    """
    if not runs or len({run.bold.shape[1] for run in runs}) != 1:
        raise BadInput(
            f"{len(runs)} runs of {sorted({run.bold.shape[1] for run in runs})} voxels",
            "one run or more, of the same voxels",
            "Give the runs of one session inside one mask.",
        )
    if options.percent:
        for run in runs:
            _refuse_centred(run)
    reference = reference_duration(runs)
    return [make_frame(run, responses, reference, options) for run in runs]


def _refuse_centred(run: Run) -> None:
    """Refuse a signal that has no mean to take percents of."""
    some = np.asarray(run.bold[:, :: max(1, run.bold.shape[1] // _SAMPLE)], dtype=np.float64)
    flat = float((some.mean(0) <= 0).mean())
    if flat > _CENTRED:
        raise BadInput(
            f"{run.name}, in which {flat:.0%} of the voxels have a mean of 0 or below, as after z-scoring",
            "a signal with its mean, as it was measured",
            "Give BOLD before it was centred, or set the option percent to false.",
        )


def make_frame(run: Run, responses: Sequence[Hrf], reference: float, options: GlmOptions) -> Frame:
    """Make the frame of one run.

    Parameters
    ----------
    run : Run
    responses : the library
    reference : duration of the event whose response has height 1, s
    options : GlmOptions
    """
    measured = find_measured(run.events, run.timing, CANONICAL)
    left_out = int((~measured).sum())
    if left_out == len(measured):
        raise BadInput(f"{run.name} without a trial that was measured", "one or more", "Check its events.")
    run = _keep_trials(run, measured) if left_out else run
    nuisance = nuisance_of(run, options.drift_degree)
    if nuisance.shape[1] >= len(nuisance) - 1:
        raise BadInput(
            f"{run.name} of {len(nuisance)} volumes with {nuisance.shape[1]} regressors of no interest",
            "more volumes than regressors",
            "Use fewer confounds.",
        )
    designs = tuple(design_trials(run.events, run.timing, hrf, reference) for hrf in responses)
    rho = 0.0
    if options.noise == "ar1":
        canonical = design_trials(run.events, run.timing, CANONICAL, reference)
        rho = find_autoregression(run, nuisance, canonical, options.percent)
    none = np.zeros((len(nuisance), 0))
    basis = basis_of(whiten(nuisance, rho))
    return Frame(run, rho, basis, none, tuple(whiten(design, rho) for design in designs), options.percent, left_out)


def _keep_trials(run: Run, kept: NDArray[np.bool_]) -> Run:
    events = run.events
    some = replace(
        events, onsets=events.onsets[kept], durations=events.durations[kept], stimulus_ids=events.stimulus_ids[kept]
    )
    return replace(run, events=some, labels={name: column[kept] for name, column in run.labels.items()})


def find_autoregression(run: Run, nuisance: Floats, design: Floats, percent: bool) -> float:
    """Return the autoregression of first order of what a model leaves, one for the run, corrected for the fit.

    With R the matrix that makes residuals and V[i, j] = rho^|i - j|, the autocovariance of residuals at lag 1 is
    expected at tr(R D R V) and their variance at tr(R V): the rho is returned at which their ratio is the one that was
    measured in a few hundred voxels. The fit alone makes it negative (Worsley et al. 2002, NeuroImage 15:1).
    """
    everything = basis_of(np.concatenate([nuisance, design], axis=1))
    if everything.shape[1] > 2 * len(nuisance) / 3:
        everything = basis_of(np.concatenate([nuisance, design.sum(1, keepdims=True)], axis=1))
    voxels = np.unique(np.linspace(0, run.bold.shape[1] - 1, _SAMPLE).astype(np.intp))
    rest = remove(everything, scale(run.bold, voxels, percent))
    spread = rest.std(0)
    rest = rest[:, spread > 0] / spread[spread > 0]
    if not rest.shape[1]:
        return 0.0
    volumes = len(rest)
    make = np.eye(volumes) - everything @ everything.T
    beside = make[:, :-1] @ make[1:]  # R D R, with D[t, t + 1] = 1
    apart = np.abs(np.subtract.outer(np.arange(volumes), np.arange(volumes)))
    measured = float((rest[1:] * rest[:-1]).sum() / (rest**2).sum())

    def miss(rho: float) -> float:
        covariance = rho**apart
        return float(np.sum(beside * covariance.T) / np.sum(make * covariance)) - measured

    if miss(0.0) >= 0:
        return 0.0
    return float(brentq(miss, 0.0, _MOST, xtol=1e-3)) if miss(_MOST) > 0 else _MOST
