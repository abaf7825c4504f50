"""What a person chose where a file can be read in more than one way; nothing of it is guessed."""

from dataclasses import dataclass
from pathlib import Path

from voxelight.models.errors import BadInput
from voxelight.storage.formats.images import MAX_PIXELS
from voxelight.storage.formats.names import find_suffix
from voxelight.storage.formats.nifti_forms import Form, prefer_form
from voxelight.storage.formats.nifti_header import parse_header
from voxelight.storage.formats.nifti_volume import write_one_volume


@dataclass(frozen=True)
class Reading:
    """How to read a file.

    Parameters
    ----------
    prefer : of two placements in a NIfTI header that differ, the one that holds
    volume : of several volumes in a series, or pages of a TIFF file, the one that is meant, from 1
    """

    prefer: Form | None = None
    volume: int | None = None

    def describe(self) -> dict[str, int | float | str]:
        """Return what was chosen, as facts of a scan."""
        chosen = {"preferred_form": self.prefer, "volume": self.volume}
        return {name: value for name, value in chosen.items() if value is not None}


AS_IT_IS = Reading()


def settle(path: Path, name: str, target: Path, reading: Reading) -> bool:
    """Write a file as a person chose to read it, so that it can be read in one way only.

    Parameters
    ----------
    path : as it came, under any name
    name : what the person calls it
    target : where to write
    reading : what was chosen

    Returns
    -------
    bool
        Whether `target` was written; else there was nothing to choose.

    Raises
    ------
    BadInput
        There is no such volume or form, or the kind of file has none to choose from.
    """
    suffix = find_suffix(name)
    if suffix in {".nii", ".nii.gz"}:
        return _settle_nifti(path, name, target, reading)
    if suffix in {".tif", ".tiff"} and reading.volume is not None:
        from voxelight.storage.formats.tiff import write_page

        write_page(path, target, name, reading.volume, MAX_PIXELS)
        return True
    if reading.volume is not None:
        raise BadInput(f"volume {reading.volume} of {name}", "a DICOM series, a 4-D NIfTI or a TIFF file of several",
                       "Leave the volume out.")  # fmt: skip
    return False


def _settle_nifti(path: Path, name: str, target: Path, reading: Reading) -> bool:
    placed = reading.prefer is not None and prefer_form(path, target, parse_header(path, name), reading.prefer, name)
    if reading.volume is None:
        return placed
    if not placed:
        write_one_volume(path, target, name, reading.volume)
        return True
    between = target.with_name(f"{target.name}.placed")
    target.replace(between)
    try:
        write_one_volume(between, target, name, reading.volume)
    finally:
        between.unlink()
    return True
