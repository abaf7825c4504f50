"""Runs of BOLD before a model is fitted: their repetition time, and events that must lie inside them."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from voxelight.models.errors import BadInput
from voxelight.storage.formats.nifti_header import parse_header

_TO_SECONDS = {"msec": 1e-3, "usec": 1e-6}
_SLOWEST, _TOLERANCE = 60.0, 1e-3


def read_repetition_time(bold: Path, sidecar: Mapping[str, Any] | None = None, name: str = "") -> float:
    """Return the repetition time of a run in seconds, from its sidecar, else from its header.

    A header that counts time in no unit and says 1, as programs do that don't know, says nothing.

    Parameters
    ----------
    bold : ``.nii`` or ``.nii.gz``
    sidecar : what the sidecar says, where it is not the ``.json`` beside the image
    name : what the person calls the image, where that is not the name on disk

    Raises
    ------
    BadInput
        Neither says it, or both say different times; it is never guessed.
    """
    name = name or bold.name
    beside = bold.with_name(f"{bold.name.removesuffix('.gz').removesuffix('.nii')}.json")
    if sidecar is None:
        sidecar = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    told: dict[str, float] = {}
    if sidecar.get("RepetitionTime") is not None:
        told[f"{name.removesuffix('.gz').removesuffix('.nii')}.json"] = float(sidecar["RepetitionTime"])
    header = parse_header(bold, name)
    unit, step = header.get_xyzt_units()[1], float(header["pixdim"][4])
    if np.isfinite(step) and step > 0 and not (unit == "unknown" and step == 1):
        told[name] = step * _TO_SECONDS.get(unit, 1.0)
    times = list(told.values())
    if not times or not 0 < times[0] <= _SLOWEST:
        raise BadInput(
            f"{name} without a repetition time" + (f" ({times[0]:g} s is none)" if times else ""),
            "RepetitionTime in its sidecar, or pixdim[4] in its header",
            f"Write {beside.name} with RepetitionTime in seconds.",
        )
    if len(times) > 1 and abs(times[0] - times[1]) > _TOLERANCE:
        raise BadInput(
            " and ".join(f"{time:g} s in {place}" for place, time in told.items()),
            "one repetition time",
            "Correct the one that is wrong; the sidecar usually holds.",
        )
    return times[0]
