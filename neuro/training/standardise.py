"""Betas brought to mean 0 and deviation 1 as they are read, by statistics of training trials, whatever their size."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.training.batches import Rows, Voxels

Floats = NDArray[np.float64]
CHUNK = 256


class StandardisedVoxels:
    """A table of betas that stays where it is and is standardised row by row.

    Parameters
    ----------
    voxels : betas (trial, voxel)
    group : number of the group of every trial
    mean, scale : (group, voxel); a voxel without variance has the scale 0 and reads 0
    """

    def __init__(self, voxels: Voxels, group: NDArray[np.intp], mean: Floats, scale: Floats) -> None:
        self._voxels, self._group, self._mean, self._scale = voxels, group, mean, scale

    @property
    def shape(self) -> tuple[int, ...]:
        """(trial, voxel)."""
        return self._voxels.shape

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        """Return some rows, float32."""
        group = self._group[rows]
        values: NDArray[np.float32] = ((self._voxels[rows] - self._mean[group]) * self._scale[group]).astype(np.float32)
        return values


@dataclass(frozen=True, eq=False)
class VoxelStatistics:
    """Mean and 1 / std of every voxel over the training trials, which go with a decoder wherever it is used.

    Parameters
    ----------
    sessions : the sessions that were standardised each by itself; None where all were together
    mean, scale : array (session, voxel), or (1, voxel); a voxel without variance has the scale 0
    """

    sessions: tuple[str, ...] | None
    mean: Floats
    scale: Floats

    def sha256(self) -> str:
        """Return the hash of all numbers."""
        return hashlib.sha256(self.mean.tobytes() + self.scale.tobytes()).hexdigest()

    def standardise(self, voxels: Voxels, sessions: Sequence[str] | None = None) -> StandardisedVoxels:
        """Return betas (trial, voxel) standardised, read a few rows at a time.

        Raises
        ------
        BadInput
            The number of voxels is another, or a session was not among those of the training.
        """
        if voxels.shape[1] != self.mean.shape[1]:
            raise BadInput(f"betas of {voxels.shape[1]} voxels", f"the {self.mean.shape[1]} of the training",
                           "Use the mask that the decoder was trained with.")  # fmt: skip
        if self.sessions is None:
            return StandardisedVoxels(voxels, np.zeros(voxels.shape[0], np.intp), self.mean, self.scale)
        strange = sorted({*(sessions or ["(unknown)"])} - {*self.sessions})
        if strange:
            raise BadInput(
                f"the session {', '.join(strange[:3])}, which was not in the training",
                f"one of {', '.join(self.sessions[:3])}{'...' if len(self.sessions) > 3 else ''}, by whose training "
                "trials its betas are standardised",
                "Train with the normalisation `training-rows`, or with trials of that session.",
            )
        place = {name: number for number, name in enumerate(self.sessions)}
        group = np.array([place[name] for name in sessions or ()], np.intp)
        return StandardisedVoxels(voxels, group, self.mean, self.scale)


def find_statistics(voxels: Voxels, train: Rows, sessions: Sequence[str] | None = None) -> VoxelStatistics:
    """Return mean and 1 / std (ddof 0) of training trials.

    Parameters
    ----------
    voxels : betas (trial, voxel), mapped from a file
    train : array (row,), the training trials; no other row is read
    sessions : of every trial, if each is standardised by itself

    Raises
    ------
    BadInput
        A session has fewer than two training trials.
    """
    names = np.asarray(["all"] * voxels.shape[0] if sessions is None else sessions)
    groups, group = np.unique(names, return_inverse=True)
    mean, scale = (np.empty((len(groups), voxels.shape[1])) for _ in range(2))
    chosen = np.sort(np.asarray(train))
    for number, name in enumerate(groups.tolist()):
        rows = chosen[group[chosen] == number]
        if len(rows) < 2:
            raise BadInput(
                f"{len(rows)} training trials of session {name} to take mean and deviation from",
                "two or more",
                "Leave the session out, or standardise all sessions together.",
            )
        mean[number], scale[number] = _summarise(voxels, rows)
    return VoxelStatistics(None if sessions is None else tuple(groups.tolist()), mean, scale)


def standardise_voxels(voxels: Voxels, train: Rows, sessions: Sequence[str] | None = None) -> StandardisedVoxels:
    """Return betas standardised by their training trials, z = (x - mean) / std (ddof 0), read a few rows at a time.

    It is what `neuro.betas.normalise` does to betas in memory, by ``training-rows-per-session``, or by
    ``training-rows`` where no sessions are given.

    Parameters
    ----------
    voxels, train, sessions : as `find_statistics`

    Raises
    ------
    BadInput
        A session has fewer than two training trials.
    """
    return find_statistics(voxels, train, sessions).standardise(voxels, sessions)


def _summarise(voxels: Voxels, rows: Rows) -> tuple[Floats, Floats]:
    """Return mean and 1 / std of rows, in two passes, so that nothing cancels."""
    mean = sum((chunk.sum(axis=0) for chunk in _chunks(voxels, rows)), start=np.zeros(1)) / len(rows)
    square, largest = np.zeros(voxels.shape[1]), np.zeros(voxels.shape[1])
    for chunk in _chunks(voxels, rows):
        square += ((chunk - mean) ** 2).sum(axis=0)
        largest = np.maximum(largest, np.abs(chunk).max(axis=0))
    std = np.sqrt(square / len(rows))
    flat = std <= 1e-9 * largest  # a constant voxel has a std of rounding errors, not of zero
    return mean, np.where(flat, 0.0, 1 / np.where(flat, 1.0, std))


def _chunks(voxels: Voxels, rows: Rows) -> Iterator[Floats]:
    for start in range(0, len(rows), CHUNK):
        yield np.asarray(voxels[rows[start : start + CHUNK]], dtype=np.float64)
