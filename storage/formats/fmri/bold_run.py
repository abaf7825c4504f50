"""One run of BOLD read: its timing, what was shown, its confounds, and its voxels mapped from the disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.neuro.glm.design import Events, Timing
from voxelight.storage.formats.betas import find_stimulus_name
from voxelight.storage.formats.fmri.faults import refuse_duplicates
from voxelight.storage.formats.fmri.runs import read_repetition_time
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.volumes import count_volumes, read_places
from voxelight.storage.formats.tables import read_columns

MOTION = ("trans_[xyz]", "rot_[xyz]")
"""Names of the confounds that are taken where nobody chooses: six of motion."""

_NON_STEADY = "non_steady_state_outlier*"
_SHOWN = ("stim_file", "stimulus", "trial_type")
_MISSING = {"", "n/a", "nan"}
_KEPT = {"trial_type": "category", "group": "group"}
_LISTED = 6
_FLAT = 1e-12


@dataclass(frozen=True, eq=False)
class Confounds:
    """What a table of confounds gives.

    Parameters
    ----------
    values : array (volume, confound), each of mean 0 and standard deviation 1
    names : of the columns
    non_steady : volumes at the start that fMRIPrep marked as not at steady magnetisation
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    non_steady: int


def read_timing(bold: Path, sidecar: Mapping[str, Any], name: str = "") -> tuple[Timing, tuple[str, ...]]:
    """Read when the volumes of a run were taken.

    The first volume stands at ``StartTime``. Where slice timing was corrected and ``StartTime`` is missing, at half a
    repetition, to which fMRIPrep moves slices; where it was not corrected, at 0, as nilearn has it.

    Parameters
    ----------
    bold : ``.nii`` or ``.nii.gz``
    sidecar : what its sidecars say
    name : what the person calls the image

    Returns
    -------
    Timing; and in words what was assumed

    Raises
    ------
    BadInput
        The repetition time is missing, differs between header and sidecar, or is not constant.
    """
    name = name or bold.name
    if "VolumeTiming" in sidecar and "RepetitionTime" not in sidecar:
        raise BadInput(f"{name} with VolumeTiming", "volumes at a constant distance", "Resample it in time first.")
    repetition = read_repetition_time(bold, sidecar, name)
    start = sidecar.get("StartTime")
    if start is not None:
        if not 0 <= float(start) < repetition:
            raise BadInput(
                f"{name} with a StartTime of {float(start):g} s at a repetition time of {repetition:g} s",
                "a time inside the first volume",
                "Correct it; onsets count from the beginning of the first volume.",
            )
        return Timing(repetition, count_volumes(bold), float(start)), ()
    if sidecar.get("SliceTimingCorrected") is True:
        note = f"{name}: slice timing corrected and no StartTime: volumes stand at half a repetition time"
        return Timing(repetition, count_volumes(bold), repetition / 2), (note,)
    return Timing(repetition, count_volumes(bold)), ()


def read_events(
    path: Path, name: str = "", column: str | None = None
) -> tuple[Events, dict[str, NDArray[np.str_]], tuple[str, ...]]:
    """Read what was shown when.

    Parameters
    ----------
    path : ``.tsv`` with `onset` and `duration` in seconds
    name : what the person calls the file
    column : that names what was shown; left out, `stim_file`, `stimulus` or `trial_type`, the first that is there

    Returns
    -------
    Events; what else is known of each trial; and in words what was left out

    Raises
    ------
    BadInput
        A column is missing, a time is no number, or nothing was shown.
    """
    name = name or path.name
    columns = read_columns(path, name)
    shown = next((each for each in ((column,) if column else _SHOWN) if each in columns), None)
    missing = [each for each in ("onset", "duration") if each not in columns] + (
        [column or _SHOWN[0]] if not shown else []
    )
    if shown is None or missing:
        raise BadInput(
            f"{name} with the columns {', '.join(columns)}",
            f"{' and '.join(missing)}" + ("" if column else " (or stimulus, or trial_type)" if not shown else ""),
            "Add what is missing, or name the column that says what was shown.",
        )
    cells = columns[shown]
    rows = [row for row, cell in enumerate(cells) if cell.strip().lower() not in _MISSING]
    if not rows:
        raise BadInput(f"{name} whose column {shown} is empty", "what was shown in each trial", "Fill it in.")
    onsets, durations = (_read_times(columns, each, rows, name) for each in ("onset", "duration"))
    refuse_duplicates("onset, stimulus", [(str(at), cells[row]) for at, row in zip(onsets, rows, strict=True)], name)
    order = np.argsort(onsets, kind="stable")
    ids = np.array([find_stimulus_name(cells[row]) for row in rows])[order]
    labels = {label: np.array([columns[each][row] for row in rows])[order]
              for each, label in _KEPT.items() if each in columns}  # fmt: skip
    skipped = len(cells) - len(rows)
    notes = (f"{name}: {skipped} rows left out, in which nothing was shown",) if skipped else ()
    return Events(onsets[order], durations[order], ids), labels, notes


def _read_times(
    columns: Mapping[str, Sequence[str]], column: str, rows: Sequence[int], name: str
) -> NDArray[np.float64]:
    cells = [columns[column][row] for row in rows]
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        wrong = next(cell for cell in cells if not _is_number(cell))
        raise BadInput(f"{name} with {column} {wrong!r}", "seconds", "Correct the table.") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_confounds(path: Path, wanted: Sequence[str] = MOTION, name: str = "") -> Confounds:
    """Read regressors of no interest from fMRIPrep's table.

    Parameters
    ----------
    path : ``.tsv``, a row a volume
    wanted : names, in which * and [xyz] stand for letters
    name : what the person calls the file

    Raises
    ------
    NotFound
        A name fits no column.
    BadInput
        A cell below the first row is no number.
    """
    name = name or path.name
    columns = read_columns(path, name)
    for pattern in wanted:
        if not any(fnmatchcase(column, pattern) for column in columns):
            there = ", ".join(list(columns)[:_LISTED])
            raise NotFound(f"no column {pattern!r} in {name}", f"one of {there}, ...", "Correct the name.")
    names = [column for column in columns if any(fnmatchcase(column, pattern) for pattern in wanted)]
    marks = [column for column in columns if fnmatchcase(column, _NON_STEADY)]
    rows = len(next(iter(columns.values())))
    values = np.stack([_standardise(columns[each], each, name) for each in names], 1) if names else np.zeros((rows, 0))
    marked = [row for column in marks for row, cell in enumerate(columns[column]) if float(cell) != 0]
    return Confounds(values, tuple(names), max(marked, default=-1) + 1)


def _standardise(cells: Sequence[str], column: str, name: str) -> NDArray[np.float64]:
    numbers = np.array([float(cell) if _is_number(cell) else np.nan for cell in cells])
    holes = np.flatnonzero(~np.isfinite(numbers))
    if len(holes) and (holes[0] != 0 or len(holes) > 1):  # a derivative has no first value
        raise BadInput(f"{name} whose {column} is no number in row {holes[-1] + 1}", "numbers", "Make it again.")
    if len(holes):
        numbers[0] = numbers[1:].mean()
    centred = numbers - numbers.mean()
    spread = centred.std()
    return centred / spread if spread > _FLAT else np.zeros_like(centred)


def map_bold(bold: Path, space: Space, target: Path) -> NDArray[np.float32]:
    """Write the voxels of a run as a table and map it, a volume in memory at a time; one that is whole is taken as is.

    Parameters
    ----------
    bold : ``.nii`` or ``.nii.gz``, four axes
    space : on its grid
    target : ``.npy`` to write

    Returns
    -------
    array (volume, voxel), float32, read-only

    Raises
    ------
    BadInput
        The image lies on another grid than the mask, is cut short, or holds NaN or infinity there.
    """
    volumes = count_volumes(bold)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        try:
            table = np.lib.format.open_memmap(part, "w+", np.float32, (volumes, len(space)))
            for place, values in read_places(bold, space, np.arange(volumes)):
                table[place] = values
                if not np.isfinite(table[place]).all():
                    raise BadInput(
                        f"{bold.name} with NaN or infinity inside {space.roi}, first in volume {int(place[0]) + 1}",
                        "finite values",
                        "Take these voxels out of the mask.",
                    )
            table.flush()
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    mapped: NDArray[np.float32] = np.load(target, mmap_mode="r")
    return mapped
