"""The design of the Natural Scenes Dataset: who saw which picture in which trial, counted from 0 and checked.

``nsd_expdesign.mat`` counts from 1, as MATLAB does; ``nsd_stim_info_merged.csv`` and ``nsd_stimuli.hdf5`` count from 0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.formats.fmri.faults import check_numbering, find_shift, refuse_shift
from voxelight.storage.formats.sniff import NAMES, sniff
from voxelight.storage.formats.tables import read_rows

EXPERIMENT = Path("nsddata/experiments/nsd")
DESIGN, STIMULI = EXPERIMENT / "nsd_expdesign.mat", EXPERIMENT / "nsd_stim_info_merged.csv"
_TRUE = {"true", "1", "1.0"}


@dataclass(frozen=True, eq=False)
class NsdDesign:
    """Trials and pictures, all counted from 0.

    Parameters
    ----------
    pictures : array (subject, trial), number of the picture of every trial, among all pictures
    shared : array (picture,), whether every subject was to see it
    trials_a_run : array (session, run), trials with a picture; None where the file doesn't say
    """

    pictures: NDArray[np.intp]
    shared: NDArray[np.bool_]
    trials_a_run: NDArray[np.intp] | None


def read_design(root: Path) -> NsdDesign:
    """Read the design from the two tables and hold them against each other.

    Parameters
    ----------
    root : folder that holds ``nsddata``

    Raises
    ------
    NotFound
        A table is missing.
    BadInput
        A table is damaged, or counts from another number than it should.
    """
    variables = _read_mat(root / DESIGN)
    ordering = _whole(variables, "masterordering").ravel()
    seen, listed = _whole(variables, "subjectim"), _whole(variables, "sharedix").ravel()
    truth = _read_shared(root / STIMULI)
    _from_one("masterordering", ordering, seen.shape[1])
    _from_one("subjectim", seen, len(truth))
    _from_one("sharedix", listed, len(truth))
    if not all(np.array_equal(row[: len(listed)], listed) for row in seen):
        raise BadInput(
            f"{DESIGN.name} whose subjects don't begin with its {len(listed)} shared pictures",
            "subjectim that begins with sharedix in every row",
            "Copy the published file again.",
        )
    refuse_shift(
        find_shift(listed - 1, np.ones(len(listed), dtype=bool), truth) if truth.sum() == len(listed) else None,
        STIMULI.name,
        f"the {len(listed)} shared pictures of {DESIGN.name}",
    )
    runs = variables.get("stimpattern")
    return NsdDesign(
        seen[:, ordering - 1] - 1, truth, None if runs is None else np.asarray(runs).sum(-1).astype(np.intp)
    )


def _read_mat(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFound(f"no {path.name} in {path.parent}", "the design as NSD publishes it", "Copy the file there.")
    kind = sniff(path)
    if kind != "mat":
        raise BadInput(f"{NAMES[kind]} under the name {path.name}", "a MATLAB file of version 5 to 7", "Copy it again.")
    try:
        names = ["masterordering", "subjectim", "sharedix", "stimpattern"]
        return {name: value for name, value in scipy.io.loadmat(path, variable_names=names).items() if name in names}
    except Exception as error:  # SciPy raises whatever a damaged byte leads to
        raise BadInput(f"{path.name}, damaged ({error})", "an intact MATLAB file", "Copy it again.") from error


def _whole(variables: dict[str, Any], name: str) -> NDArray[np.intp]:
    if name not in variables:
        raise BadInput(f"{DESIGN.name} without {name}", "masterordering, subjectim and sharedix", "Copy it again.")
    values = np.atleast_2d(np.asarray(variables[name]))
    if values.dtype.kind not in "iuf" or not values.size or bool((values != np.rint(values)).any()):
        raise BadInput(f"{name} in {DESIGN.name} that holds no whole numbers", "whole numbers", "Copy it again.")
    return values.astype(np.intp)


def _from_one(name: str, values: NDArray[np.intp], count: int) -> None:
    if values.min() < 1:
        raise BadInput(
            f"{name} in {DESIGN.name} that begins at {values.min()}, off by one",
            "numbers that count from 1, as NSD publishes them",
            "1 was subtracted from them already: take the published file.",
        )
    check_numbering(values.ravel() - 1, count, f"{name} of {DESIGN.name}")


def _read_shared(path: Path) -> NDArray[np.bool_]:
    if not path.is_file():
        raise NotFound(f"no {path.name} in {path.parent}", "the pictures as NSD lists them", "Copy the file there.")
    columns = _read_info(path)
    lacking = [name for name in ("nsdId", "shared1000") if name not in columns]
    if lacking:
        raise BadInput(f"{path.name} without {' and '.join(lacking)}", "the columns of NSD", "Copy it again.")
    try:
        ids = np.array([int(cell) for cell in columns["nsdId"]])
    except ValueError as error:
        raise BadInput(f"{path.name} with an nsdId that is no number ({error})", "numbers", "Copy it again.") from error
    if not np.array_equal(ids, np.arange(len(ids))):
        off = np.array_equal(ids, np.arange(1, len(ids) + 1))
        raise BadInput(
            f"{path.name} whose nsdId runs from {ids[0]} to {ids[-1]}" + (", off by one" if off else ""),
            f"0 to {len(ids) - 1}, in order",
            "Take the published file: its nsdId counts from 0.",
        )
    return np.array([cell.strip().lower() in _TRUE for cell in columns["shared1000"]])


def _read_info(path: Path) -> dict[str, list[str]]:
    """Read the table; its first column has no name, since pandas wrote its row numbers there."""
    header, *rows = read_rows(path)
    return {name: [row[place] for row in rows] for place, name in enumerate(header) if name}
