"""Names of uploaded files."""

import re
import unicodedata
from pathlib import Path

from voxelight.models.errors import BadInput

MAX_NAME_BYTES = 200  # file systems allow 255; a temporary name adds some
SEALED_SUFFIXES = (".dcm.zip", ".zip", ".dcm")
"""Names of what holds DICOM, whose identities are sealed."""

_FORBIDDEN = frozenset('<>:"|?*')
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}


def safe_name(name: str) -> str:
    r"""Return the name unchanged if it is a plain file name on every system.

    Raises
    ------
    BadInput
        It is empty or too long, leads to another folder (``/``, ``\``, ``..``), begins with a dot, holds invisible
        or reserved characters, begins or ends with a space, ends with a dot, or names a device.
    """
    fault = _fault(name)
    if fault:
        shown = name if len(name) <= 80 else f"{name[:77]}..."
        raise BadInput(f"the file name {shown!a}, {fault}", "a plain file name such as sub-01_T1w.nii.gz", "Rename it.")
    return name


def image_stem(name: str) -> str:
    """Return the name of a volume or picture without its suffix (`.nii.gz`, `.png` ...), in capitals or not."""
    return re.sub(r"\.(nii(\.gz)?|nrrd|mha|dcm\.zip|png|jpe?g|tiff?)$", "", name, flags=re.IGNORECASE)


def find_stored_name(name: str) -> str:
    """Return the name that an upload is stored under: a DICOM series is always one archive, `.dcm.zip`."""
    suffix = find_suffix(name)
    return f"{name[: -len(suffix)]}.dcm.zip" if suffix in SEALED_SUFFIXES else name


def find_suffix(name: str) -> str:
    """Return the suffix of a name in small letters, two parts of it where they belong together, as in `.nii.gz`."""
    double = re.search(r"\.(nii\.gz|dcm\.zip)$", name, flags=re.IGNORECASE)
    return double[0].lower() if double else Path(name).suffix.lower()


def _fault(name: str) -> str | None:
    length = len(name.encode("utf-8", "surrogatepass"))
    faults = {
        "which is empty": not name.strip(),
        "which leads to another folder": "/" in name or "\\" in name,
        "which begins with a dot": name.startswith("."),
        "which holds invisible characters": any(unicodedata.category(letter)[0] == "C" for letter in name),
        "which holds other line breaks than a space": any(
            unicodedata.category(letter) in {"Zl", "Zp"} for letter in name
        ),
        f"which holds one of {' '.join(sorted(_FORBIDDEN))}": not _FORBIDDEN.isdisjoint(name),
        "which begins or ends with a space, or ends with a dot": name != name.strip() or name.endswith("."),
        "which some systems keep for a device": name.split(".")[0].rstrip().upper() in _DEVICES,
        f"{length} bytes long, more than {MAX_NAME_BYTES}": length > MAX_NAME_BYTES,
    }
    return next((fault for fault, there in faults.items() if there), None)
