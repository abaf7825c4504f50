"""The voxels of a DICOM series, one file in memory at a time."""

import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import ImplicitVRLittleEndian

from voxelight.models.errors import BadInput
from voxelight.storage.formats.archives import opened_zip
from voxelight.storage.formats.dicom.files import parse, read_each
from voxelight.storage.formats.dicom.series import SeriesFiles, find_series
from voxelight.storage.formats.dicom.stack import Stack, stack_slices
from voxelight.storage.formats.sniff import sniff
from voxelight.storage.formats.streams import readable, refuse_if

CHOSEN = "VOLUME"
_DIGITS = 9
_DECODING = (
    *(ValueError, RuntimeError, NotImplementedError, AttributeError, TypeError, KeyError, OSError, MemoryError),
    struct.error,
)


def open_stack(path: Path, name: str = "") -> Stack:
    """Open an archive, folder or file that holds one series of one volume; no voxel is read.

    Parameters
    ----------
    path : ``.dcm.zip``, a folder, or a multi-frame file
    name : what the person calls it, where that is not the name on disk

    Raises
    ------
    BadInput
        It holds no series of images or several, or the series is no one volume.
    """
    return stack_slices(only_series(path, name))


def only_series(path: Path, name: str = "") -> SeriesFiles:
    """Return the one series of images that an archive, folder or file holds.

    Raises
    ------
    BadInput
        There is none, or more than one.
    """
    found, name = find_series([path]), name or path.name
    refuse_if(not found, f"{name} without a DICOM image", "the slices of one series", "Check what it holds.")
    refuse_if(
        len(found) > 1,
        f"{name} with {len(found)} series: {', '.join(each.title for each in found[:4])}",
        "one series",
        "Drop it on the upload page or give it to voxelight ingest, which take in every series for itself.",
    )
    return replace(found[0], volume=_read_chosen(path))


def _read_chosen(path: Path) -> int | None:
    """Return which volume of its series an archive says is meant."""
    if not path.is_file() or sniff(path) != "zip":
        return None
    with opened_zip(path) as archive:
        if CHOSEN not in archive.namelist():
            return None
        said = archive.read(CHOSEN)[:_DIGITS].decode("ascii", "replace").strip()
    return int(said) if said.isdecimal() else None


def read_slices(stack: Stack, every: int = 1) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield slices with their place in the stack, in the order of the files, one file in memory at a time.

    Parameters
    ----------
    stack : Stack
    every : take each n-th slice only

    Yields
    ------
    place in the stack, and array (row, column), float32, slope and intercept applied

    Raises
    ------
    BadInput
        A file is damaged, or its compression can't be read.
    """
    wanted: dict[int, list[int]] = {}
    for place in range(0, len(stack.frames), every):
        wanted.setdefault(stack.frames[place].file, []).append(place)
    files = sorted(wanted)
    for number, (file, content) in zip(files, read_each([stack.series.files[each] for each in files]), strict=True):
        pixels = decode(parse(io.BytesIO(content), file.name), file.name)
        for place in wanted[number]:
            frame = stack.frames[place]
            slope, intercept = frame.scaling
            refuse_if(
                frame.number >= len(pixels) or pixels.shape[1:] != frame.shape,
                f"{file.name} with voxels of shape {pixels.shape}",
                f"{frame.shape[0]} rows and {frame.shape[1]} columns, as its header says",
                "The file is damaged: copy it again.",
            )
            yield place, (pixels[frame.number] * slope + intercept).astype(np.float32)


def read_array(stack: Stack, max_bytes: int) -> NDArray[np.float32]:
    """Read a whole volume.

    Parameters
    ----------
    stack : Stack
    max_bytes : limit of the voxels in memory, bytes

    Returns
    -------
    array (column, row, slice), float32

    Raises
    ------
    BadInput
        As `read_slices`, or the volume is too large.
    """
    claimed = int(np.prod(stack.shape, dtype=np.int64)) * 4
    refuse_if(
        claimed > max_bytes,
        f"{stack.series.title} with {readable(claimed)} of voxels",
        f"at most {readable(max_bytes)}",
        "Split it.",
    )
    array = np.empty(stack.shape, dtype=np.float32)
    for place, pixels in read_slices(stack):
        array[:, :, place] = pixels.T
    return array


def decode(dataset: Dataset, name: str) -> NDArray[Any]:
    """Return the stored values of every frame of a file: array (frame, row, column).

    Raises
    ------
    BadInput
        The compression is unknown, or the voxels are damaged.
    """
    syntax = find_syntax(dataset)
    refuse_if(
        not can_decode(syntax),
        f"{name}, compressed as {getattr(syntax, 'name', syntax)}",
        "a compression that can be read: none, RLE, JPEG, JPEG-LS or JPEG 2000",
        "Decompress the series first, with dcmdjpeg or gdcmconv --raw for example.",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # padding and the like, which decoders put right
            pixels = dataset.pixel_array
    except _DECODING as error:
        raise BadInput(
            f"{name}, whose voxels can't be decoded ({type(error).__name__})", "an intact file", "Copy it again."
        ) from error
    return np.asarray(pixels if pixels.ndim == 3 else pixels[np.newaxis])


def find_syntax(dataset: Dataset) -> Any:
    """Return the transfer syntax of a file; one without a header for it is taken as what old files are."""
    found = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    if found is None:
        dataset.file_meta.TransferSyntaxUID = found = ImplicitVRLittleEndian
    return found


def can_decode(syntax: Any) -> bool:
    """Whether this installation reads voxels stored so."""
    try:
        return bool(get_decoder(syntax).is_available)
    except (NotImplementedError, KeyError, TypeError, ValueError):  # none, several, or no UID at all
        return False
