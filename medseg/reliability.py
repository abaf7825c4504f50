"""Whether a network is as certain as it is right: expected calibration error, and the temperature that lowers it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize_scalar

from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap

BINS = 15  # as Guo et al. 2017
BAND_MM = 3.0
_COOLEST, _HOTTEST = 0.05, 20.0
_SMALLEST = 1e-7


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often voxels are right, by how certain they are, in 15 bins of equal width.

    Parameters
    ----------
    voxels : array (bin,), how many
    certainty, right : array (bin,), sum of their confidence; how many of them are right
    """

    voxels: NDArray[np.float64]
    certainty: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def ece(self) -> float:
        r"""Expected calibration error, :math:`\sum_b n_b / n |acc_b - conf_b|` (Guo et al. 2017, equation 3)."""
        total = self.voxels.sum()
        return float(np.abs(self.right - self.certainty).sum() / total) if total else float("nan")

    def __add__(self, other: "Reliability") -> "Reliability":
        """Pool the voxels of two cases."""
        return Reliability(
            self.voxels + other.voxels, self.certainty + other.certainty, self.right + other.right
        )  # fmt: skip


def measure_reliability(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], reference: LabelMap, band_mm: float = BAND_MM
) -> tuple[Reliability, Reliability]:
    """Measure calibration of the likeliest label: over the image, and in a band around borders of the reference.

    Most voxels are background, far from anything and certain; the band holds those where it matters.

    Parameters
    ----------
    confidence : array (i, j, k), probability of the label that was found, in [0, 1]
    right : array (i, j, k), whether that is the label of the reference
    reference : LabelMap
    band_mm : distance from a voxel that touches another label by a face

    Returns
    -------
    Reliability of every voxel, and of those in the band
    """
    band = find_band(reference, band_mm)
    return bin_confidence(confidence, right), bin_confidence(confidence[band], right[band])


def bin_confidence(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> Reliability:
    """Sort voxels into bins by their confidence.

    Parameters
    ----------
    confidence : array, in [0, 1]
    right : array of the same shape
    """
    sure, hit = confidence.ravel().astype(np.float64), right.ravel()
    places = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    counts = [np.bincount(places, weights, BINS).astype(np.float64) for weights in (None, sure, hit)]
    return Reliability(*counts)


def find_band(reference: LabelMap, band_mm: float = BAND_MM) -> NDArray[np.bool_]:
    """Return the voxels near a border between labels, array (i, j, k); none where there is one label only."""
    labels = reference.array
    border = np.zeros(labels.shape, dtype=bool)
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        step = labels[tuple(low)] != labels[tuple(high)]
        border[tuple(low)] |= step
        border[tuple(high)] |= step
    if not border.any():
        return border
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~border, sampling=reference.geometry.spacing) <= band_mm
    return near


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to cases that it was fitted on.

    Parameters
    ----------
    temperature : above 1 where the networks are too certain
    nll_before, nll_after : mean negative log-likelihood, nats a voxel
    ece_before, ece_after : expected calibration error of the likeliest label
    voxels : how many were looked at
    """

    temperature: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    voxels: int


def fit_temperature(samples: Iterable[tuple[NDArray[np.floating[Any]], NDArray[np.integer[Any]]]]) -> Calibration:
    """Find the temperature under which the reference is likeliest (Guo et al. 2017, section 4.2).

    Parameters
    ----------
    samples : of each held-out case: probabilities, array (label, voxel), and the reference, array (voxel,)

    Raises
    ------
    BadInput
        There is no voxel.
    """
    pairs = list(samples)
    if not sum(reference.size for _, reference in pairs):
        raise BadInput("no voxel to calibrate on", "cases that training has not seen, with their reference",
                       "Name a folder with images/ and labels/.")  # fmt: skip
    logs = np.log(np.maximum(np.concatenate([p for p, _ in pairs], axis=1).astype(np.float64), _SMALLEST))
    reference = np.concatenate([labels for _, labels in pairs]).astype(np.int64)
    found = minimize_scalar(
        lambda log_t: _nll(logs / np.exp(log_t), reference),
        bounds=(np.log(_COOLEST), np.log(_HOTTEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    temperature = float(np.exp(found.x))
    (before, ece), (after, ece_after) = (_describe(logs, reference, t) for t in (1.0, temperature))
    return Calibration(temperature, before, after, ece, ece_after, reference.size)


def pool(parts: Sequence[Reliability | None]) -> Reliability | None:
    """Put the voxels of cases together; None where a case has no confidence."""
    there = [part for part in parts if part is not None]
    if not there or len(there) < len(parts):
        return None
    total = there[0]
    for part in there[1:]:
        total = total + part
    return total


def _soften(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logs - logs.max(axis=0)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=0))
    return normalised


def _nll(logs: NDArray[np.float64], reference: NDArray[np.int64]) -> float:
    return float(-_soften(logs)[reference, np.arange(reference.size)].mean())


def _describe(logs: NDArray[np.float64], reference: NDArray[np.int64], temperature: float) -> tuple[float, float]:
    softened = _soften(logs / temperature)
    chosen = softened.argmax(axis=0)
    certainty = np.exp(softened[chosen, np.arange(reference.size)])
    return _nll(logs / temperature, reference), bin_confidence(certainty, chosen == reference).ece
