"""Single-trial betas with what was seen: MATLAB files, and NIfTI with a mask and events."""

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, Stimuli, picture_id
from voxelight.storage.formats.fmri.faults import refuse_duplicates, refuse_unscaled
from voxelight.storage.formats.images import PICTURE_SUFFIXES
from voxelight.storage.formats.nifti import MAX_BYTES, read_mask, read_series
from voxelight.storage.formats.sniff import NAMES, sniff
from voxelight.storage.formats.streams import readable, refuse_if
from voxelight.storage.formats.tables import read_columns, read_rows

_PARTS = ("Trn", "Test")
_NUMBERS = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_EXPAND_LIMIT = 1032 * 8  # deflate, and doubles that MATLAB stores as bytes
_FAULTS = (
    *(ValueError, TypeError, KeyError, IndexError, OSError, EOFError, MemoryError, NotImplementedError, zlib.error),
    MatReadError,
)
_STIMULUS_COLUMNS = ("stim_file", "stimulus")
_UNIT_COLUMNS = {
    "category": ("trial_type",),
    "run": ("run",),
    "session": ("session", "sess", "ses"),
    "group": ("group",),
    "shared": ("shared", "shared1000"),
}
_MISSING = {"", "n/a"}


def read_betas_mat(
    path: Path, subject: str = "01", roi: str = "V1", max_bytes: int = MAX_BYTES, name: str = ""
) -> tuple[Betas, Stimuli]:
    """Read betas and the pictures seen from a MATLAB 5 file in the layout used for Miyawaki et al. (2008).

    The file holds `fmriTrn` (trial, voxel), `stimTrn` (trial, pixel) and, where known, `labelTrn` (trial, 1), and the
    same for `Test`. Its own split is not kept: trials of both parts follow each other. A row of `stim` is one square
    picture read down its columns, as MATLAB does.

    Parameters
    ----------
    path : ``.mat``, version 5 to 7
    subject : label of the subject
    roi : region the voxels come from
    max_bytes : limit of the arrays in memory, bytes
    name : what the person calls the file, where that is not the name on disk

    Returns
    -------
    Betas
        `stimulus_ids` are hashes of the pictures' content; `labels["category"]` is the condition number.
    Stimuli
        The distinct pictures (stimulus, row, column, 1), in the order of their first trial.

    Raises
    ------
    BadInput
        The file is no such file, is damaged, or its parts don't fit each other.

    References
    ----------
    Miyawaki et al. (2008), Neuron 60:915.
    """
    name = name or path.name
    variables = _read_numbers(path, name, max_bytes)
    parts = [part for part in _PARTS if f"fmri{part}" in variables]
    for part in parts:
        rows = {what: len(variables[what + part]) for what in ("fmri", "stim", "label") if what + part in variables}
        refuse_if(
            "stim" not in rows or len(set(rows.values())) != 1,
            f"{name} with {', '.join(f'{count} rows of {what}{part}' for what, count in rows.items())}",
            "one row a trial in each",
            "Write fmri, stim and label of the same trials.",
        )
    values = _stacked(name, variables, "fmri", parts).astype(np.float32)
    images, ids, shown = _distinct(_pictures(name, _stacked(name, variables, "stim", parts)))
    labels = {}
    if all(f"label{part}" in variables for part in parts):
        numbers = np.concatenate([variables[f"label{part}"].ravel() for part in parts])
        labels["category"] = np.array([f"{number:.15g}" for number in numbers.tolist()])
    return Betas(values, shown, subject, roi, labels), Stimuli(images, ids)


def read_betas_nifti(betas: Path, mask: Path, events: Path, subject: str = "01", roi: str | None = None) -> Betas:
    """Read betas from a 4-D image of one volume a trial, inside a mask, with what was seen from an events table.

    Parameters
    ----------
    betas : ``.nii`` or ``.nii.gz``, trial last
    mask : 3-D on the same grid, above zero inside the region
    events : ``.tsv``, one row a volume
        Column `stim_file` or `stimulus`; where there, `trial_type` becomes the label `category`, and `run`, `session`,
        `group` and `shared` are kept. A stimulus id is the name of the picture without folder and picture suffix.
    subject : label of the subject
    roi : region the mask marks; the mask's file name where not given

    Raises
    ------
    BadInput
        A file can't be read, mask and betas lie on different grids, or events and volumes differ in number.
    """
    columns = {column.lower(): cells for column, cells in read_columns(events).items()}
    ids = read_stimulus_ids(columns, events.name)
    inside, geometry = read_mask(mask)
    values = refuse_unscaled(read_series(betas, inside, geometry), betas.name)
    refuse_if(
        len(values) != len(ids),
        f"{len(ids)} events in {events.name} for {len(values)} volumes of betas in {betas.name}",
        "one row of events a volume",
        "Give the events of the trials that were estimated, in their order.",
    )
    keys = [column for column in ("session", "sess", "ses", "run", "trial", "onset") if column in columns]
    if {"trial", "onset"} & set(keys):
        refuse_duplicates(", ".join(keys), list(zip(*(columns[key] for key in keys), strict=True)), events.name)
    labels = {
        unit: np.array(columns[column])
        for unit, known in _UNIT_COLUMNS.items()
        for column in known
        if column in columns
    }
    return Betas(values, ids, subject, roi or mask.name.split(".")[0], labels)


def read_runs(
    bolds: Sequence[Path], mask: Path, labels: Sequence[Path]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Read BOLD runs inside one mask, each with its label rows, as nilearn lays out Miyawaki et al. (2008).

    Parameters
    ----------
    bolds : 4-D images, one a run
    mask : 3-D on the same grid
    labels : ``.csv`` without a header, one a run, one row a volume; the pixels shown in column order, or -1 at rest

    Returns
    -------
    list of (array (time, voxel) float32, array (time, column) float32), one pair a run

    Raises
    ------
    BadInput
        Numbers of runs or rows differ, a file can't be read, or grids differ.
    """
    refuse_if(
        len(bolds) != len(labels),
        f"{len(bolds)} BOLD runs and {len(labels)} tables of labels",
        "one table a run",
        "Pair every run with its labels.",
    )
    inside, geometry = read_mask(mask)
    runs = []
    for bold, label in zip(bolds, labels, strict=True):
        values, rows = read_series(bold, inside, geometry), _read_numbers_csv(label)
        refuse_if(
            len(values) != len(rows),
            f"{len(rows)} rows of labels in {label.name} for {len(values)} volumes in {bold.name}",
            "one row a volume",
            "Pair every run with its own labels.",
        )
        runs.append((values, rows))
    return runs


def _read_numbers(path: Path, name: str, max_bytes: int) -> dict[str, NDArray[Any]]:
    """Read the numeric matrices of the layout; every other variable stays unread."""
    kind = sniff(path)
    refuse_if(
        kind in {"mat-7.3", "hdf5"},
        f"{NAMES[kind]}, {name}",
        "a MATLAB file of version 5 to 7",
        "Save it again in MATLAB with save(..., '-v7').",
    )
    refuse_if(
        kind != "mat",
        f"{NAMES[kind]} under the name {name}",
        "a MATLAB file of version 5 to 7",
        "Save it in MATLAB with save(..., '-v7') or with scipy.io.savemat.",
    )
    wanted = {f"{what}{part}" for what in ("fmri", "stim", "label") for part in _PARTS}
    try:
        listed = {variable: (shape, kind) for variable, shape, kind in scipy.io.whosmat(path) if variable in wanted}
        _check_listed(path, name, listed, max_bytes)
        return {
            variable: np.asarray(array)
            for variable, array in scipy.io.loadmat(path, variable_names=list(listed), mat_dtype=True).items()
            if variable in listed
        }
    except BadInput:
        raise
    except _FAULTS as error:
        raise BadInput(f"{name}, cut off or damaged ({error})", "an intact MATLAB file", "Copy it again.") from error


def _check_listed(path: Path, name: str, listed: Mapping[str, tuple[tuple[int, ...], str]], max_bytes: int) -> None:
    refuse_if(
        not any(variable.startswith("fmri") for variable in listed),
        f"{name} without betas",
        "the variables fmriTrn and stimTrn (labelTrn, and the same for Test, where known)",
        "Rename the variables, or give betas as NIfTI with a mask and events.",
    )
    for variable, (shape, kind) in listed.items():
        refuse_if(
            kind not in _NUMBERS or len(shape) != 2 or 0 in shape,
            f"{name} whose {variable} is a {kind} of shape {shape}",
            "a matrix of numbers, one row a trial",
            "Save plain matrices, no structs, cells or objects.",
        )
    claimed = sum(8 * math.prod(shape) for shape, _ in listed.values())
    size = path.stat().st_size
    refuse_if(
        claimed > min(max_bytes, size * _EXPAND_LIMIT),
        f"{name} of {readable(size)} that claims {readable(claimed)} of numbers",
        f"at most {readable(max_bytes)}, and no more than a file of its size can hold",
        "Check that the file is not damaged, or split it.",
    )


def _stacked(name: str, variables: dict[str, NDArray[Any]], what: str, parts: list[str]) -> NDArray[Any]:
    arrays = [variables[what + part] for part in parts]
    widths = [array.shape[1] for array in arrays]
    refuse_if(
        len(set(widths)) != 1,
        f"{name} with {' and '.join(map(str, widths))} columns in {' and '.join(what + part for part in parts)}",
        "the same columns in both",
        "Write the same voxels and pixels for training and test.",
    )
    return np.concatenate(arrays)


def _pictures(name: str, rows: NDArray[Any]) -> NDArray[np.float32]:
    side = math.isqrt(rows.shape[1])
    refuse_if(
        side * side != rows.shape[1],
        f"{name} with pictures of {rows.shape[1]} pixels",
        "square pictures of one channel",
        "Store every picture as one row of side x side pixels.",
    )
    scaled = rows / np.float32(255) if rows.dtype == np.uint8 and rows.max() > 1 else rows
    down_columns = scaled.astype(np.float32).reshape(len(rows), side, side)
    return np.ascontiguousarray(down_columns.transpose(0, 2, 1))[..., np.newaxis]


def _distinct(pictures: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.str_], NDArray[np.str_]]:
    shown = np.array([picture_id(picture) for picture in pictures])
    _, first = np.unique(shown, return_index=True)
    first.sort()
    return pictures[first], shown[first], shown


def read_stimulus_ids(columns: Mapping[str, list[str]], name: str) -> NDArray[np.str_]:
    """Find what was seen in the columns of an events table called `name`.

    Returns
    -------
    array (row,), str
        Names of pictures, without folder and picture suffix.

    Raises
    ------
    BadInput
        There is no column `stim_file` or `stimulus`, a row is blank, or two pictures would share a name.
    """
    columns = {column.lower(): cells for column, cells in columns.items()}
    column = next((column for column in _STIMULUS_COLUMNS if column in columns), None)
    if column is None:
        raise BadInput(
            f"{name} with the columns {', '.join(columns)}",
            "a column stim_file or stimulus",
            "Add the picture that was seen in every trial.",
        )
    cells = columns[column]
    missing = sum(cell.strip().lower() in _MISSING for cell in cells)
    refuse_if(missing > 0, f"{name} with {missing} rows without a stimulus", "a stimulus in every row", "Fill them in.")
    named = {cell: find_stimulus_name(cell) for cell in cells}
    refuse_if(
        len(set(named.values())) != len(named),
        f"{name} with {len(named)} files but {len(set(named.values()))} names of pictures",
        "names that differ without their folder and suffix",
        "Rename pictures of one name in two folders.",
    )
    return np.array([named[cell] for cell in cells])


def find_stimulus_name(cell: str) -> str:
    """Return what a cell of an events table calls a stimulus: the name of its picture, without folder and suffix."""
    plain = PurePosixPath(cell.strip()).name
    return plain.rsplit(".", 1)[0] if plain.lower().endswith(PICTURE_SUFFIXES) else plain


def _read_numbers_csv(path: Path) -> NDArray[np.float32]:
    rows = read_rows(path)
    try:
        numbers = np.array(rows, dtype=np.float32)
    except ValueError as error:
        raise BadInput(f"{path.name} with a cell that is no number ({error})", "numbers only", "Check it.") from error
    refuse_if(not np.isfinite(numbers).all(), f"{path.name} with NaN or infinity", "finite numbers", "Check it.")
    return numbers
