"""What an uploaded table or sidecar of a run says, before it is stored; and a sidecar without what names a person."""

import json
from pathlib import Path
from typing import Any, Literal

from voxelight.models.errors import BadInput
from voxelight.storage.formats.betas import read_stimulus_ids
from voxelight.storage.formats.findings import of_repeats
from voxelight.storage.formats.fmri.bold import read_sidecar
from voxelight.storage.formats.fmri.bold_run import read_events
from voxelight.storage.formats.found import Finding
from voxelight.storage.formats.tables import read_columns

_CONFOUNDS = ("framewise_displacement", "global_signal", "trans_x", "csf", "white_matter")
_SHOWN = {"stim_file", "stimulus"}
# Fields that say how a run was taken; who, where and when it was taken is not kept.
KEPT = frozenset({
    "RepetitionTime", "SliceTiming", "SliceTimingCorrected", "StartTime", "VolumeTiming", "DelayTime", "EchoTime",
    "FlipAngle", "MagneticFieldStrength", "Manufacturer", "NumberOfVolumesDiscardedByScanner",
    "NumberOfVolumesDiscardedByUser", "PhaseEncodingDirection", "EffectiveEchoSpacing", "TotalReadoutTime",
    "MultibandAccelerationFactor", "SkullStripped", "TaskName",
})  # fmt: skip


def describe_table(path: Path, name: str) -> tuple[Literal["events", "confounds"], dict[str, Any], tuple[Finding, ...]]:
    """Return what a table is, what is in it and what to know of it.

    Parameters
    ----------
    path : ``.tsv``
    name : what the person calls it

    Returns
    -------
    ``confounds`` where a column is one of fMRIPrep's, else ``events``; facts; findings

    Raises
    ------
    BadInput
        It is neither.
    """
    columns = read_columns(path, name)
    lower = {column.lower() for column in columns}
    rows = len(next(iter(columns.values())))
    if not lower & _SHOWN and set(columns) & set(_CONFOUNDS):
        return "confounds", {"rows": rows, "columns": len(columns)}, ()
    told = {"rows": rows, "columns": ", ".join(columns)}
    if {"onset", "duration"} <= lower and not (lower & _SHOWN and _is_full(columns)):
        events, _, notes = read_events(path, name)
        shown = events.stimulus_ids
        skipped = tuple(Finding(found=note, remedy="Add what was shown, if something was.") for note in notes)
        return "events", told | {"stimuli": len(set(shown.tolist()))}, (*skipped, *of_repeats(shown))
    shown = read_stimulus_ids(columns, name)
    return "events", told | {"stimuli": len(set(shown.tolist()))}, tuple(of_repeats(shown))


def _is_full(columns: dict[str, list[str]]) -> bool:
    return all(
        cell.strip().lower() not in {"", "n/a"}
        for column, cells in columns.items()
        if column.lower() in _SHOWN
        for cell in cells
    )


def describe_sidecar(path: Path, name: str) -> dict[str, Any]:
    """Return the numbers of a run's sidecar.

    Raises
    ------
    BadInput
        It is no sidecar of an image in time.
    """
    told = read_sidecar(path, name)
    if not {"RepetitionTime", "VolumeTiming", "StartTime"} & set(told):
        raise BadInput(
            f"{name} with {len(told)} fields, none of them RepetitionTime",
            "the sidecar of a run of BOLD",
            "Other JSON files need not be stored; leave it out.",
        )
    numbers = {key: _number(told[key], key, name) for key in ("RepetitionTime", "StartTime") if key in told}
    return numbers | {"slice_timing_corrected": str(told.get("SliceTimingCorrected", "not said")).lower()}


def _number(value: Any, key: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise BadInput(f"{name} whose {key} is {str(value)[:40]!r}", "a number of seconds", "Correct the sidecar.")
    return float(value)


def clean_sidecar(path: Path, target: Path, name: str) -> bool:
    """Keep the fields of a sidecar that say how a run was taken, and no other."""
    told = read_sidecar(path, name)
    kept = {key: value for key, value in told.items() if key in KEPT}
    if kept == told:
        return False
    target.write_text(f"{json.dumps(kept, indent=2)}\n", encoding="utf-8")
    return True
