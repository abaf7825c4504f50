"""TIFF pictures: Pillow reads the plain ones, tifffile those that it refuses; 16 bits stay 16 bits."""

import logging
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.storage.formats.streams import refuse_if

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs texts of the file, which may name a person

_MOST_PAGES = 10_000
_FULL = {"uint8": 255.0, "uint16": 65535.0}
_FAULTS = (
    ValueError,
    OSError,
    RuntimeError,
    KeyError,
    IndexError,
    TypeError,
    MemoryError,
    zlib.error,
    struct.error,
    AttributeError,
    ArithmeticError,
    tifffile.TiffFileError,
)


def read_tiff(path: Path, name: str, max_pixels: int) -> NDArray[np.float32]:
    """Read the one page of a TIFF file.

    Parameters
    ----------
    path : where it lies
    name : what the person calls it
    max_pixels : limit before anything is decompressed

    Returns
    -------
    array (row, column, 1 or 3), float32 in [0, 1]; whole numbers by what their type can hold, others as they are

    Raises
    ------
    BadInput
        It is damaged, too large, of several pages, transparent, or its values are neither 8 or 16 bits nor 0 to 1.
    """
    pages = count_pages(path, name)
    refuse_if(
        pages > 1,
        f"{name} of {pages} pages",
        "one picture, or the page that is wanted",
        "Choose it: --volume 1 in the shell or ?volume=1 over HTTP takes the first page; or save the pages one by one.",
    )
    return _scale(_read_page(path, name, 0, max_pixels), name)


def count_pages(path: Path, name: str) -> int:
    """Return how many full pages a TIFF file has; small copies of a page (reduced images) are none.

    Raises
    ------
    BadInput
        It is damaged.
    """
    _refuse_loop(path, name)
    try:
        with tifffile.TiffFile(path) as file:
            return sum(not _whole(page).is_reduced for page in file.pages)
    except _FAULTS as error:
        raise _unreadable(name, error) from error


def write_page(path: Path, target: Path, name: str, number: int, max_pixels: int) -> None:
    """Write one page without any note in its tags; its values stay as they are.

    Parameters
    ----------
    path, target : where it lies, and where to write
    name : what the person calls it
    number : of the page, from 1
    max_pixels : limit before anything is decompressed

    Raises
    ------
    BadInput
        It is damaged or too large, or has no such page.
    """
    pages = count_pages(path, name)
    refuse_if(not 1 <= number <= pages, f"page {number} of {name}", f"one from 1 to {pages}", "Choose another page.")
    array = _read_page(path, name, number - 1, max_pixels)
    colour = "rgb" if array.ndim == 3 and array.shape[2] in (3, 4) else "minisblack"
    tifffile.imwrite(target, array, photometric=colour, compression="zlib", metadata=None, software=False)


def clean_tiff(path: Path, target: Path, name: str) -> bool:
    """Write the page of a TIFF file without descriptions, names, dates and thumbnails; its values stay as they are."""
    write_page(path, target, name, 1, 2**31)
    if target.read_bytes() == path.read_bytes():
        target.unlink()
        return False
    return True


def _refuse_loop(path: Path, name: str) -> None:
    """Refuse a chain of pages that comes back to itself, or is longer than anybody's; tifffile would follow it."""
    with path.open("rb") as file:
        head = file.read(16)
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        long = head[2:4] in (b"\x2b\0", b"\0\x2b")
        count_bytes, tag_bytes, next_bytes = (8, 20, 8) if long else (2, 12, 4)
        at = int.from_bytes(head[8:16] if long else head[4:8], order)
        seen: set[int] = set()
        length = path.stat().st_size
        while 0 < at < length and at not in seen and len(seen) <= _MOST_PAGES:
            seen.add(at)
            file.seek(at)
            behind = file.tell() + count_bytes + int.from_bytes(file.read(count_bytes), order) * tag_bytes
            file.seek(min(behind, length))
            at = int.from_bytes(file.read(next_bytes), order)
    refuse_if(
        at in seen or len(seen) > _MOST_PAGES,
        f"{name} whose chain of pages has no end",
        f"at most {_MOST_PAGES} pages",
        "The file is damaged: save it again from its source.",
    )


def _whole(page: tifffile.TiffPage | tifffile.TiffFrame) -> tifffile.TiffPage:
    return page.aspage()


def _read_page(path: Path, name: str, number: int, max_pixels: int) -> NDArray[Any]:
    try:
        with warnings.catch_warnings(), tifffile.TiffFile(path) as file:
            warnings.simplefilter("ignore")
            page = [page for page in map(_whole, file.pages) if not page.is_reduced][number]
            rows, columns = page.imagelength, page.imagewidth
            refuse_if(
                rows * columns > max_pixels,
                f"{name} of {columns} x {rows} pixels",
                f"at most {max_pixels / 1e6:g} million pixels",
                "Scale it down.",
            )
            array = np.asarray(_decode(path, page, number))
            inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            planar = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    except _FAULTS as error:
        if isinstance(error, BadInput):
            raise
        raise _unreadable(name, error) from error
    if planar and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    return np.iinfo(array.dtype).max - array if inverted and array.dtype.kind == "u" else array


def _decode(path: Path, page: Any, number: int) -> NDArray[Any]:
    """Decode by tifffile, and what its build has no codec for by Pillow."""
    try:
        return np.asarray(page.asarray())
    except ValueError:
        from PIL import Image

        with Image.open(path, formats=("TIFF",)) as picture:
            picture.seek(number)
            return np.asarray(picture)


def _scale(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    array = array[..., np.newaxis] if array.ndim == 2 else array
    refuse_if(
        array.ndim != 3 or array.shape[2] not in (1, 3, 4),
        f"{name} of shape {array.shape}",
        "grey or RGB",
        "Save one grey or RGB picture.",
    )
    full = _FULL.get(array.dtype.name)
    if array.shape[2] == 4:
        refuse_if(bool((array[..., 3] < (full or 1)).any()), f"{name} with transparent pixels",
                  "a picture without transparency", "Flatten it onto the background that was shown.")  # fmt: skip
        array = array[..., :3]
    if full is not None:
        return (array.astype(np.float32) / np.float32(full)).astype(np.float32)
    inside = array.dtype.kind == "f" and bool(np.isfinite(array).all()) and array.min() >= 0 and array.max() <= 1
    refuse_if(
        not inside,
        f"{name} with values of type {array.dtype} from {array.min():g} to {array.max():g}",
        "8 or 16 bits, or fractions from 0 to 1",
        "Scale the values and save them as 16 bits.",
    )
    return array.astype(np.float32)


def _unreadable(name: str, error: Exception) -> BadInput:
    return BadInput(f"{name}, a picture that can't be decoded ({type(error).__name__})", "an intact TIFF file",
                    "Copy it again, or save it without compression.")  # fmt: skip
