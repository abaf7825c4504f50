"""What a session adds to the responses: neighbouring trials, correlated noise, drift, and a gain of its own."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, model_validator
from scipy.stats import gamma

Floats = NDArray[np.floating[Any]]

ONSET_S = 4.0  # between trials, as in NSD
PICTURE_S = 3.0
_STEP_S, _LENGTH_S = 0.05, 32.0
_SLOWEST = 3  # cosines of the drift, half a period to one and a half in a session


class NoiseOptions(BaseModel):
    """Noise of one trial, as shares of the variance that is left beside the signal. All of it is assumed.

    Parameters
    ----------
    correlated : share of the noise that voxels have in common
    rank : dimensions of it
    drift : share of the noise that changes slowly within a session
    overlap : share of a neighbour's response that the estimation leaves, times the HRF's own overlap at 4 s
    gain : standard deviation of the logarithm of a session's gain
    offset : standard deviation of the offset of a voxel in a session
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    correlated: float = Field(default=0.25, ge=0, le=1)
    rank: PositiveInt = 20
    drift: float = Field(default=0.05, ge=0, le=1)
    overlap: float = Field(default=0.2, ge=0, le=0.3)
    gain: NonNegativeFloat = 0.1
    offset: NonNegativeFloat = 0.3

    @model_validator(mode="after")
    def _leave_something(self) -> "NoiseOptions":
        if self.correlated + self.drift >= 1:
            raise ValueError("correlated and drift must leave some noise to each voxel")
        return self

    @property
    def linear_gaussian(self) -> bool:
        """Whether trials are independent and Gaussian around the response, so that the best decoder is known."""
        return self.drift == self.overlap == self.gain == self.offset == 0


LINEAR_GAUSSIAN = NoiseOptions(drift=0, overlap=0, gain=0, offset=0)


def double_gamma(times: Floats) -> Floats:
    """Return the canonical haemodynamic response, gamma(6) - gamma(16) / 6, of a moment at time 0.

    Parameters
    ----------
    times : array, s

    References
    ----------
    Friston et al. (1998), NeuroImage 7:30; as in SPM, up to scale.
    """
    response: Floats = gamma.pdf(times, 6) - gamma.pdf(times, 16) / 6
    return response


@cache
def find_overlaps() -> tuple[float, ...]:
    """Return <h(t), h(t - 4 s k)> / <h, h>: how responses to pictures of 3 s overlap, k = 1 to 3 onsets apart."""
    times = np.arange(0, _LENGTH_S, _STEP_S)
    response = np.convolve(double_gamma(times), np.ones(round(PICTURE_S / _STEP_S)))
    apart = (round(number * ONSET_S / _STEP_S) for number in (1, 2, 3))
    return tuple(float(response[shift:] @ response[:-shift] / (response @ response)) for shift in apart)


def add_neighbours(signals: NDArray[np.float32], runs: NDArray[np.intp], overlap: float) -> NDArray[np.float32]:
    """Add to every trial what is left of the trials around it in the same run.

    Parameters
    ----------
    signals : array (trial, voxel), in order of time
    runs : array (trial,)
    overlap : share that the estimation leaves

    Returns
    -------
    array (trial, voxel)
    """
    mixed = signals.copy()
    for number, weight in enumerate(find_overlaps(), start=1):
        together = (runs[number:] == runs[:-number])[:, None] * np.float32(overlap * weight)
        mixed[number:] += together * signals[:-number]
        mixed[:-number] += together * signals[number:]
    return mixed


def neighbours_variance(overlap: float) -> float:
    """Return the variance that neighbours add to a trial inside a run, that of a response being 1."""
    return 2 * float(np.sum(np.square(find_overlaps()))) * overlap**2


def draw_drift(trials: int, voxels: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Draw slow changes of every voxel within a session, of mean 0 and variance 1 on average: array (trial, voxel)."""
    steps = (np.arange(trials) + 0.5) / max(trials, 1)
    cosines = np.cos(np.pi * steps[:, None] * np.arange(1, _SLOWEST + 1)) * np.sqrt(2 / _SLOWEST)
    drift: NDArray[np.float32] = cosines.astype(np.float32) @ random.standard_normal(
        (_SLOWEST, voxels), dtype=np.float32
    )
    return drift


def draw_loadings(voxels: int, rank: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Draw how the common noise reaches each voxel: array (voxel, dimension), rows of length 1."""
    loadings = random.standard_normal((voxels, rank), dtype=np.float32)
    unit: NDArray[np.float32] = loadings / np.linalg.norm(loadings, axis=1, keepdims=True)
    return unit
