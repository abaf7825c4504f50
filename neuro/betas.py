"""Betas made comparable: three named normalisations, and the average over repeats."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Betas

Rows = NDArray[np.intp]
Labels = NDArray[np.str_]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Normalisation:
    """One way to give every voxel mean 0 and standard deviation 1.

    Parameters
    ----------
    name : printed with every score
    summary : which rows give the statistics, in one sentence
    transductive : whether held-out rows take part in the statistics
    standardise : (Betas, training rows) -> array (trial, voxel), float64, all rows standardised
    """

    name: str
    summary: str
    transductive: bool
    standardise: Callable[[Betas, Rows], Floats]


def normalise(betas: Betas, train: Rows, name: str) -> Betas:
    """Standardise every voxel, z = (x - mean) / std with the population's std (ddof 0).

    Parameters
    ----------
    betas : Betas (trial, voxel)
    train : array (row,), the training rows of the fold
    name : a key of `NORMALISATIONS`

    Returns
    -------
    Betas (trial, voxel), training and held-out rows alike; a voxel without variance becomes 0

    Raises
    ------
    NotFound
        No normalisation has this name.
    BadInput
        The sessions are unknown, or one has fewer than two rows to take statistics from.
    """
    values = find_normalisation(name).standardise(betas, train)
    return replace(betas, values=values.astype(np.float32))


def find_normalisation(name: str) -> Normalisation:
    """Return a row of the table.

    Raises
    ------
    NotFound
        No normalisation has this name.
    """
    if name not in NORMALISATIONS:
        raise NotFound(f"the normalisation {name!r}", f"one of {', '.join(NORMALISATIONS)}", "Correct the name.")
    return NORMALISATIONS[name]


def average_repeats(betas: Betas, within: Labels | None = None) -> Betas:
    """Average the trials of each stimulus.

    Parameters
    ----------
    betas : Betas (trial, voxel)
    within : array (trial,), str, optional
        A unit, e.g. the run: only trials of one unit are averaged with each other.

    Returns
    -------
    Betas (stimulus, voxel), in the order in which stimuli, or stimuli in units, first occur
        A label is kept where all trials that are averaged agree in it, and dropped otherwise.
    """
    parts = [np.unique(column, return_inverse=True)[1] for column in (betas.stimulus_ids, within) if column is not None]
    _, first, inverse = np.unique(np.stack(parts, axis=1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.argsort(order)[inverse.ravel()]
    counts = np.bincount(place)
    together = betas.values[np.argsort(place, kind="stable")].astype(np.float64)
    values = np.add.reduceat(together, np.cumsum(counts) - counts, axis=0) / counts[:, None]
    rows = first[order]
    kept = {name: column[rows] for name, column in betas.labels.items() if bool((column[rows][place] == column).all())}
    return replace(betas, values=values.astype(np.float32), stimulus_ids=betas.stimulus_ids[rows], labels=kept)


def select_rows(betas: Betas, rows: Rows) -> Betas:
    """Return some trials with all that is known of them."""
    labels = {name: column[rows] for name, column in betas.labels.items()}
    return replace(betas, values=betas.values[rows], stimulus_ids=betas.stimulus_ids[rows], labels=labels)


def _standardise(values: Floats, source: Floats) -> Floats:
    source = source.astype(np.float64)
    mean, std = source.mean(0), source.std(0)
    # A constant voxel has a std of rounding errors, not of zero.
    flat = std <= 1e-9 * np.abs(source).max(0)
    scaled: Floats = np.where(flat, 0.0, (values - mean) / np.where(flat, 1.0, std))
    return scaled


def _by_training_rows(betas: Betas, train: Rows) -> Floats:
    return _standardise(betas.values, betas.values[train])


def _by_session(betas: Betas, allowed: Rows, remedy: str) -> Floats:
    if "session" not in betas.labels:
        raise BadInput("betas without sessions", "a session for every trial", "Add the column `session` to the events.")
    sessions = betas.labels["session"]
    values = np.empty(betas.values.shape)
    for session in np.unique(sessions):
        rows = np.flatnonzero(sessions == session)
        source = np.intersect1d(rows, allowed)
        if len(source) < 2:
            raise BadInput(
                f"{len(source)} rows of session {session} to take mean and deviation from", "two or more", remedy
            )
        values[rows] = _standardise(betas.values[rows], betas.values[source])
    return values


def _by_training_rows_per_session(betas: Betas, train: Rows) -> Floats:
    return _by_session(betas, train, "Normalise by `training-rows`, or by `own-session` and say so.")


def _by_own_session(betas: Betas, train: Rows) -> Floats:
    return _by_session(betas, np.arange(len(betas.values)), "Normalise by `training-rows`.")


NORMALISATIONS: dict[str, Normalisation] = {
    row.name: row
    for row in (
        Normalisation(
            "training-rows",
            "statistics of the training rows of the fold, all sessions together",
            transductive=False,
            standardise=_by_training_rows,
        ),
        Normalisation(
            "training-rows-per-session",
            "statistics of the training rows of the same session",
            transductive=False,
            standardise=_by_training_rows_per_session,
        ),
        Normalisation(
            "own-session",
            "statistics of all rows of the same session, held-out rows included (transductive)",
            transductive=True,
            standardise=_by_own_session,
        ),
    )
}
