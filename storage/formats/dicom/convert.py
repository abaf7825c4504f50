"""Series that our reader refuses, converted by dcm2niix: mosaics, tilted and uneven slices, files of unknown make."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import dcm2niix

from voxelight.models.errors import BadInput
from voxelight.storage.formats.dicom.files import read_each
from voxelight.storage.formats.dicom.refusals import Uneven
from voxelight.storage.formats.dicom.series import SeriesFiles

_PATIENCE_S = 900
_RESLICED = ("_Eq", "_Tilt")  # how dcm2niix ends the names of what it resampled
_STEM = "converted"


@dataclass(frozen=True)
class Converted:
    """One NIfTI file that came of a series.

    Parameters
    ----------
    path : ``.nii.gz``
    resliced : whether it was resampled, so that it lies on another grid than the series
    program : what made it
    """

    path: Path
    resliced: bool
    program: str


@contextmanager
def converted(series: SeriesFiles, work: Path, reason: BadInput) -> Iterator[list[Converted]]:
    """Convert a series; what comes of it is gone on leaving.

    Parameters
    ----------
    series : SeriesFiles
    work : folder on a disk with room for it
    reason : why it is converted, raised again where that is of no use

    Raises
    ------
    BadInput
        dcm2niix makes nothing of it.
    """
    with tempfile.TemporaryDirectory(dir=work) as folder:
        source, out = Path(folder, "dicom"), Path(folder, "nifti")
        source.mkdir()
        out.mkdir()
        for number, (_, content) in enumerate(read_each(series.files)):
            (source / f"{number:06d}.dcm").write_bytes(content)
        # No sidecar and no name of the patient in a file name; Ctrl-C must not leave it running.
        command = [dcm2niix.bin, "-b", "n", "-z", "i", "-f", _STEM, "-w", "1", "-o", str(out), str(source)]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            raise reason from None
        shutil.rmtree(source)
        found = sorted(out.glob("*.nii.gz"))
        resliced = [path for path in found if _is_resliced(path)]
        # Where it resampled, what it left as it was is the file with the fault.
        found = resliced or ([] if isinstance(reason, Uneven) else found)
        if not found:
            raise reason
        yield [Converted(path, _is_resliced(path), f"dcm2niix {version('dcm2niix')}") for path in found]


def _is_resliced(path: Path) -> bool:
    return any(mark in path.name.removeprefix(_STEM) for mark in _RESLICED)
