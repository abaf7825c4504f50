"""Where a NIfTI header places the voxels when its two ways of saying so, sform and qform, differ."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import gzip
from pathlib import Path
from typing import IO, Any, Literal, get_args

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.storage.formats.sniff import sniff
from voxelight.storage.formats.streams import gzip_faults, open_stream

Form = Literal["sform", "qform"]
FORMS: tuple[Form, ...] = get_args(Form)
MOST_MM, MOST_DEG = 0.1, 0.5
_CHUNK = 1 << 20


def measure_disagreement(fields: nib.Nifti1Header, shape: tuple[int, int, int]) -> tuple[float, float]:
    """Return how far sform and qform place a corner apart, in units of the header, and the largest angle of two axes.

    Parameters
    ----------
    fields : header with both codes above 0, else the two are taken to agree
    shape : (i, j, k)

    Returns
    -------
    distance, and degrees
    """
    if not all(fields[f"{form}_code"] > 0 for form in FORMS):
        return 0.0, 0.0
    sform, qform = np.asarray(fields.get_sform()), np.asarray(fields.get_qform())
    corners = np.array([(*np.multiply(corner, np.array(shape) - 1), 1) for corner in np.ndindex(2, 2, 2)])
    distance = float(np.linalg.norm(corners @ (sform - qform)[:3].T, axis=1).max())
    return distance, float(np.rad2deg(_widest_angle(sform[:3, :3], qform[:3, :3])))


def _widest_angle(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    lengths = np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0)
    if not lengths.min() > 0:
        return 0.0  # folded flat, which is refused elsewhere
    across = np.linalg.norm(np.cross(first, second, axis=0), axis=0) / lengths
    return float(np.arctan2(across, (first * second).sum(axis=0) / lengths).max())


def refuse_disagreement(name: str, apart: tuple[float, float]) -> None:
    """Refuse a header whose two placements are not the same.

    Parameters
    ----------
    name : what the person calls the file
    apart : mm and degrees

    Raises
    ------
    BadInput
        They differ by more than 0.1 mm or 0.5 degrees.
    """
    if apart[0] > MOST_MM or apart[1] > MOST_DEG:
        raise BadInput(
            f"{name}, whose sform and qform place a corner {apart[0]:.2f} mm apart, turned by {apart[1]:.2f} degrees",
            f"two that agree within {MOST_MM} mm and {MOST_DEG} degrees, or one that is preferred",
            "Say which one holds: --prefer sform or --prefer qform in the shell, ?prefer=sform over HTTP, or the "
            "setting prefer_form for every upload of this installation. The other one is then made to agree.",
        )


def prefer_form(path: Path, target: Path, fields: nib.Nifti1Header, form: Form, name: str) -> bool:
    """Write a file whose sform and qform both say what the preferred one said; its voxels stay as they are.

    Parameters
    ----------
    path, target : the file as it came, and where to write
    fields : its header, as stored
    form : the one that holds
    name : what the person calls it

    Returns
    -------
    bool
        Whether there was anything to change; else nothing is written.

    Raises
    ------
    BadInput
        The file has no such form, or its gzip stream is damaged.
    """
    code = int(fields[f"{form}_code"])
    if code <= 0:
        raise BadInput(f"{name} without a {form}", "a header with the form that is preferred", "Prefer the other one.")
    dims = [int(side) for side in fields["dim"][1:4]]
    apart = measure_disagreement(fields, (dims[0], dims[1], dims[2]))
    if apart == (0.0, 0.0):
        return False
    changed = fields.copy()
    if form == "sform":
        changed.set_qform(fields.get_sform(), code=code, strip_shears=True)
        # A quaternion knows no shear: where it can't say the same, it says nothing.
        if not np.allclose(changed.get_qform(), fields.get_sform(), atol=MOST_MM / max(dims)):
            changed["qform_code"] = 0
    else:
        changed.set_sform(fields.get_qform(), code=code)
    _write(path, target, changed, name)
    return True


def _write(path: Path, target: Path, fields: Any, name: str) -> None:
    with gzip_faults(name), open_stream(path) as source, target.open("wb") as file:
        packed = sniff(path) == "gzip"
        out: IO[bytes] = gzip.GzipFile("", "wb", 1, file, mtime=0) if packed else file  # type: ignore[assignment]
        out.write(fields.binaryblock)
        source.seek(len(fields.binaryblock))
        while chunk := source.read(_CHUNK):
            out.write(chunk)
        if packed:
            out.close()
