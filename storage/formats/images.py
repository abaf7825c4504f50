"""Pictures: PNG, JPEG and TIFF in, PNG out."""

import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from voxelight.medseg.colours import find_parts
from voxelight.models.errors import BadInput
from voxelight.models.values import Stimuli
from voxelight.storage.formats.sniff import NAMES, sniff
from voxelight.storage.formats.streams import refuse_if, replacing

MAX_PIXELS = 64 * 10**6
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_GREY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    MemoryError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)


def read_picture(path: Path, name: str = "", max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Read a PNG, JPEG or TIFF file, turned upright by its EXIF note; nothing of EXIF is kept.

    Parameters
    ----------
    path : the content decides, not the suffix
    name : what the person calls the file, where that is not the name on disk
    max_pixels : limit before anything is decompressed

    Returns
    -------
    array (row, column, channel), float32 in [0, 1]
        One channel for grey, three for colour.

    Raises
    ------
    BadInput
        The file is of another kind, cut off, too large, or partly transparent.
    """
    name = name or path.name
    kind = sniff(path)
    if kind == "tiff":
        from voxelight.storage.formats.tiff import read_tiff

        return read_tiff(path, name, max_pixels)
    refuse_if(
        kind not in {"png", "jpeg"},
        f"{NAMES[kind]} under the name {name}",
        "a PNG, JPEG or TIFF picture",
        "Convert the picture; renaming it is not enough.",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            picture = Image.open(path, formats=("PNG", "JPEG"))
    except Image.DecompressionBombError as error:
        raise _too_large(f"{name} ({error})", max_pixels) from error
    except _FAULTS as error:
        raise _unreadable(name, error) from error
    with picture:
        if picture.width * picture.height > max_pixels:
            raise _too_large(f"{name} of {picture.width} x {picture.height} pixels", max_pixels)
        try:
            upright = ImageOps.exif_transpose(picture)
            return _as_array(upright, name)
        except _FAULTS as error:
            if isinstance(error, BadInput):
                raise
            raise _unreadable(name, error) from error


def read_stimuli(paths: Sequence[Path], ids: Sequence[str] | None = None, size: int | None = None) -> Stimuli:
    """Read pictures as stimuli of one size.

    Parameters
    ----------
    paths : PNG or JPEG files
    ids : one a picture; the file names without suffix where not given
    size : side of the square to make, pixels
        The largest centred square is cut out and resized (Lanczos). Without it, pictures must already agree in size.

    Raises
    ------
    BadInput
        There is no picture, one can't be read, sizes differ and no `size` is given, or ids don't fit.
    """
    refuse_if(not paths, "no picture", "at least one PNG or JPEG file", "Add the pictures that were shown.")
    pictures = [read_picture(path) for path in paths]
    if size is not None:
        pictures = [square(picture, size) for picture in pictures]
    shapes = sorted({picture.shape[:2] for picture in pictures})
    refuse_if(
        len(shapes) > 1,
        f"pictures of {len(shapes)} sizes, from {shapes[0][0]} x {shapes[0][1]} to {shapes[-1][0]} x {shapes[-1][1]}",
        "one size",
        "Give a size, to which each is cropped at the centre and scaled.",
    )
    channels = max(picture.shape[2] for picture in pictures)
    images = np.stack([np.broadcast_to(picture, (*shapes[0], channels)) for picture in pictures])
    return Stimuli(images, np.array([path.stem for path in paths] if ids is None else list(ids)))


def encode_png(array: NDArray[Any]) -> bytes:
    """Encode a picture as PNG without metadata; the same pixels give the same bytes.

    Parameters
    ----------
    array : array (row, column) or (row, column, 1 or 3), uint8, or float in [0, 1]

    Raises
    ------
    BadInput
        The shape, type or range is another.
    """
    refuse_if(
        array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3)),
        f"a picture of shape {array.shape}",
        "(row, column) or (row, column, 1 or 3 channels)",
        "Give one grey or RGB picture.",
    )
    floating = array.dtype.kind == "f"
    in_range = not floating or (bool(np.isfinite(array).all()) and array.min() >= 0 and array.max() <= 1)
    refuse_if(
        not (in_range and (floating or array.dtype == np.uint8)),
        f"a picture of type {array.dtype} from {array.min()} to {array.max()}",
        "uint8, or floats from 0 to 1",
        "Scale the values to 0 to 1.",
    )
    pixels = np.rint(array * 255).astype(np.uint8) if floating else array
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="PNG", compress_level=6)
    return file.getvalue()


def encode_label_png(array: NDArray[np.integer[Any]], names: Mapping[int, str]) -> bytes:
    """Encode label numbers as a PNG whose pixels are the numbers, shown in the colours of the labels.

    Parameters
    ----------
    array : array (row, column), 0 to 255
    names : label number -> name
    """
    picture = Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8)).convert("P")
    colours = [find_parts(number) if number in names else (0, 0, 0) for number in range(256)]
    picture.putpalette([part for colour in colours for part in colour])
    file = BytesIO()
    picture.save(file, format="PNG", compress_level=6)
    return file.getvalue()


def encode_number_png(array: NDArray[np.integer[Any]]) -> bytes:
    """Encode numbers of objects as a grey PNG of 16 bits, array (row, column)."""
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(array, dtype=np.uint16)).save(file, format="PNG", compress_level=6)
    return file.getvalue()


def read_numbers(path: Path) -> NDArray[np.int64]:
    """Read a grey or indexed picture whose values are numbers, of labels or of objects: array (row, column).

    Raises
    ------
    BadInput
        It is no picture, or has colours.
    """
    try:
        with Image.open(path) as picture:
            array = np.asarray(picture)
    except _FAULTS as error:
        raise BadInput(f"{path.name}, which is no picture ({error})", "a label map as PNG", "Save it again.") from None
    refuse_if(array.ndim != 2, f"{path.name} with {array.ndim} axes", "one number a pixel", "Save it as grey PNG.")
    return array.astype(np.int64)


def decode_png(content: bytes) -> NDArray[np.float32]:
    """Return a picture that `encode_png` encoded: array (row, column, 1 or 3), float32 in [0, 1]."""
    with Image.open(BytesIO(content), formats=("PNG",)) as picture:
        return _as_array(picture, "a stored picture")


def write_png(path: Path, array: NDArray[Any]) -> None:
    """Write a picture as `encode_png` does, in one step.

    Raises
    ------
    BadInput
        The array is no picture.
    """
    payload = encode_png(array)
    with replacing(path) as file:
        file.write(payload)


def _as_array(picture: Image.Image, name: str) -> NDArray[np.float32]:
    if picture.mode in _GREY_16:
        return (np.asarray(picture, dtype=np.float32) / np.float32(65535))[..., np.newaxis]
    grey = picture.mode in {"1", "L", "LA"}
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        lowest = int(np.asarray(picture)[..., 3].min())
        refuse_if(
            lowest < 255,
            f"{name} with transparent pixels",
            "a picture without transparency",
            "Flatten it onto the background that was shown.",
        )
    array = np.asarray(picture.convert("L" if grey else "RGB"), dtype=np.float32) / np.float32(255)
    return array[..., np.newaxis] if grey else array


def square(picture: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Cut the largest centred square out of a picture (row, column, channel) and resize it (Lanczos)."""
    rows, columns, channels = picture.shape
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    square = picture[top : top + side, left : left + side]
    planes = [
        np.asarray(Image.fromarray(square[..., channel]).resize((size, size), Image.Resampling.LANCZOS))
        for channel in range(channels)
    ]
    resized: NDArray[np.float32] = np.stack(planes, axis=-1).astype(np.float32)
    return resized.clip(0, 1)


def _unreadable(name: str, error: Exception) -> BadInput:
    return BadInput(f"{name}, a picture that can't be decoded ({error})", "an intact PNG or JPEG", "Copy it again.")


def _too_large(found: str, max_pixels: int) -> BadInput:
    return BadInput(found, f"at most {max_pixels / 1e6:g} million pixels", "Scale it down.")
