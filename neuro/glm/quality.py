"""How good the betas of a session are: maps of reliability and noise ceiling from repeats."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Betas
from voxelight.neuro.alignment import Alignment, check_alignment
from voxelight.neuro.evaluate.ceiling import find_ceiling, find_reliability


@dataclass(frozen=True, eq=False)
class Quality:
    """Maps over voxels; None where fewer than two stimuli were repeated.

    Parameters
    ----------
    reliability : array (voxel,), correlation of two halves of the repeats over stimuli, corrected to the whole
    explainable : array (voxel,), noise ceiling: share of the variance of the averages over repeats that is signal
    ncsnr : array (voxel,), standard deviation of the signal over that of the noise
    repeated : stimuli with two trials or more
    alignment : whether repeats agree better than trials with permuted ids
    """

    reliability: NDArray[np.float64] | None
    explainable: NDArray[np.float64] | None
    ncsnr: NDArray[np.float64] | None
    repeated: int
    alignment: Alignment


def assess(betas: Betas, seed: int = 0) -> Quality:
    """Measure what repeats say of betas.

    Parameters
    ----------
    betas : Betas (trial, voxel)
    seed : of the permutations of ids
    """
    first, second = _halves(betas.stimulus_ids)
    alignment = check_alignment(betas, seed=seed)
    if len(first) < 2:
        return Quality(None, None, None, len(first), alignment)
    ceiling = find_ceiling(betas)
    reliability = find_reliability(first @ betas.values, second @ betas.values)
    return Quality(reliability, ceiling.explainable, ceiling.ncsnr, len(first), alignment)


def _halves(ids: NDArray[np.str_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of trials in the averages over odd and over even repeats: two arrays (stimulus, trial)."""
    _, place, counts = np.unique(ids, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    rank = np.empty(len(ids), dtype=np.intp)
    rank[order] = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    repeated = np.flatnonzero(counts > 1)
    first, second = (((place[None] == repeated[:, None]) & (rank % 2 == half)).astype(np.float64) for half in (0, 1))
    return first / first.sum(1, keepdims=True), second / second.sum(1, keepdims=True)
