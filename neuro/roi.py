"""Which voxels enter a decoder: regions as masks, and a choice by how well training trials repeat."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.betas import select_rows
from voxelight.neuro.evaluate.ceiling import choose_voxels, find_ceiling
from voxelight.neuro.splits import Rows

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class VoxelChoice:
    """Voxels that training trials chose.

    Parameters
    ----------
    places : array (chosen,), columns of the betas, rising
    ncsnr : array (voxel,), of the training trials, for every column
    trials : how many training trials took part
    """

    places: NDArray[np.intp]
    ncsnr: NDArray[np.float64]
    trials: int


def join_regions(masks: Sequence[Mask]) -> Mask:
    """Return the voxels of any of some regions on one grid.

    Raises
    ------
    BadInput
        There is no mask, or they lie on grids of several shapes.
    """
    joined: Mask = np.logical_or.reduce(_combine(masks))
    return joined


def intersect_regions(masks: Sequence[Mask]) -> Mask:
    """Return the voxels that all of some regions share.

    Raises
    ------
    BadInput
        There is no mask, they lie on grids of several shapes, or they share no voxel.
    """
    shared: Mask = np.logical_and.reduce(_combine(masks))
    if not shared.any():
        raise BadInput(f"{len(masks)} regions without a common voxel", "regions that overlap", "Join them instead.")
    return shared


def keep_voxels(betas: Betas, places: NDArray[np.intp], roi: str = "") -> Betas:
    """Return some columns of betas, under the name of their region.

    Parameters
    ----------
    betas : Betas (trial, voxel)
    places : columns to keep
    roi : what they are; left out, the region of the betas
    """
    if not len(places) or places.min() < 0 or places.max() >= betas.values.shape[1]:
        raise BadInput(
            f"{len(places)} columns to keep of {betas.values.shape[1]}", "one or more that are there", "Correct them."
        )
    return replace(betas, values=betas.values[:, places], roi=roi or betas.roi)


def choose_reliable(betas: Betas, train: Rows, count: int | None = None, ncsnr: float | None = None) -> VoxelChoice:
    """Choose voxels by their reliability in training trials; held-out trials are not looked at.

    The ncsnr that ships with NSD was computed with the trials of the shared pictures, which are the test set: it is for
    display and ceilings, and no argument here takes it.

    Parameters
    ----------
    betas : Betas (trial, voxel), normalised or not
    train : array (row,), training rows
    count : how many voxels, the most reliable first
    ncsnr : or the smallest ncsnr (standard deviation of signal over noise) of a voxel that is kept

    Raises
    ------
    BadInput
        Neither or both are given, fewer than two training stimuli repeat, or no voxel is left.
    """
    if (count is None) == (ncsnr is None):
        raise BadInput("no rule to choose voxels by, or two", "a count or a smallest ncsnr", "Give one of both.")
    chosen = select_rows(betas, train)
    found = find_ceiling(chosen).ncsnr
    places = choose_voxels(betas, train, count) if count is not None else np.flatnonzero(found >= float(ncsnr or 0))
    if not len(places):
        raise BadInput(f"no voxel with an ncsnr of {ncsnr:g} or more", "one or more", "Lower it, or give a count.")
    return VoxelChoice(places, found, len(train))


def _combine(masks: Sequence[Mask]) -> NDArray[Any]:
    shapes = {mask.shape for mask in masks}
    if len(shapes) != 1:
        raise BadInput(f"masks of shapes {sorted(shapes)}", "one or more on one grid", "Resample none: choose others.")
    return np.stack([mask.astype(bool) for mask in masks])
