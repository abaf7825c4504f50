"""Betas of block designs: the mean of each block, shifted by the lag of the blood."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, Stimuli, picture_id
from voxelight.neuro.recipes import RunOptions

Floats = NDArray[np.floating[Any]]

_REST = -1


def betas_from_runs(
    runs: Sequence[tuple[Floats, Floats]], options: RunOptions, subject: str, roi: str
) -> tuple[Betas, Stimuli]:
    """Average every block of every run.

    A block is a stretch of volumes with one picture; its betas are the mean of the volumes that come `lag_volumes`
    later, after each voxel of the run was detrended and brought to mean 0 and standard deviation 1. These statistics
    come from the run itself, rest and all blocks included, whichever are held out later (transductive inside a run);
    they use no picture. The normalisation of the recipe, fitted on training rows, comes on top.

    Parameters
    ----------
    runs : pairs of array (volume, voxel) and array (volume, pixel), as `storage.formats.betas.read_runs` gives them
        A row of pixels is a square picture of 0 and 1 read down its columns, or -1 throughout at rest.
    options : RunOptions
    subject, roi : of the betas

    Returns
    -------
    Betas (block, voxel), with the label `run`, e.g. ``run-01``
    Stimuli, one for each distinct picture, one channel, named by its content

    Raises
    ------
    BadInput
        Volumes and labels do not fit, pictures are not square or not 0 and 1, or no block is left.
    """
    responses, pictures, names = [], [], []
    for number, (bold, rows) in enumerate(runs, start=1):
        _check_run(number, bold, rows)
        blocks = find_blocks(rows)
        values, kept = average_blocks(bold, blocks, options)
        responses += list(values)
        pictures += [rows[blocks[block][0]] for block in kept]
        names += [f"run-{number:02d}"] * len(kept)
    if not responses:
        raise BadInput("runs without a block", "a picture in at least one volume", "Check the labels (-1 is rest).")
    stimuli, ids = _collect(np.stack(pictures))
    values = np.stack(responses).astype(np.float32)
    return Betas(values, ids, subject, roi, labels={"run": np.asarray(names)}), stimuli


def average_blocks(bold: Floats, blocks: Sequence[tuple[int, int]], options: RunOptions) -> tuple[Floats, list[int]]:
    """Average the volumes of each block of one run, as `betas_from_runs` says.

    Parameters
    ----------
    bold : array (volume, voxel)
    blocks : from `find_blocks`
    options : RunOptions

    Returns
    -------
    array (block, voxel), and the numbers of the blocks that it holds: one whose response lies past the end has none
    """
    filtered = _filter(bold, options.detrend)
    shifted = [filtered[start + options.lag_volumes : stop + options.lag_volumes] for start, stop in blocks]
    kept = [number for number, volumes in enumerate(shifted) if len(volumes)]
    return np.array([shifted[number].mean(0) for number in kept]).reshape(len(kept), bold.shape[1]), kept


def find_blocks(labels: Floats) -> list[tuple[int, int]]:
    """Return first volume and volume behind the last of each stretch with one picture, rest left out.

    Parameters
    ----------
    labels : array (volume, pixel), -1 at rest
    """
    changes = np.flatnonzero((labels[1:] != labels[:-1]).any(1)) + 1
    edges = [0, *changes.tolist(), len(labels)]
    return [(start, stop) for start, stop in pairwise(edges) if labels[start, 0] != _REST]


def _collect(pictures: Floats) -> tuple[Stimuli, NDArray[np.str_]]:
    side = round(float(np.sqrt(pictures.shape[1])))
    distinct, place = np.unique(pictures, axis=0, return_inverse=True)
    images = distinct.reshape(-1, side, side, 1).swapaxes(1, 2).astype(np.float32)
    ids = np.asarray([picture_id(image) for image in images])
    return Stimuli(images, ids), ids[place.ravel()]


def _filter(bold: Floats, detrend: bool) -> Floats:
    series = bold.astype(np.float64)
    series = signal.detrend(series, axis=0) if detrend else series - series.mean(0)
    std = series.std(0)
    # A constant voxel has a std of rounding errors, not of zero.
    flat = std <= 1e-9 * np.abs(bold).max(0)
    filtered: Floats = np.where(flat, 0.0, series / np.where(flat, 1.0, std))
    return filtered


def _check_run(number: int, bold: Floats, labels: Floats) -> None:
    if bold.ndim != 2 or labels.ndim != 2 or len(bold) != len(labels):
        raise BadInput(
            f"run {number} with volumes {bold.shape} and labels {labels.shape}",
            "(volume, voxel) and (volume, pixel) of one length",
            "Check that the files belong to one run, in the same order.",
        )
    side = round(float(np.sqrt(labels.shape[1])))
    values = set(np.unique(labels).tolist())
    if side * side != labels.shape[1] or not values <= {_REST, 0, 1}:
        raise BadInput(
            f"run {number} with pictures of {labels.shape[1]} pixels and values {sorted(values)[:5]}",
            "square pictures of 0 and 1, -1 at rest",
            "Check the table of labels.",
        )
