"""Small pictures of what a file holds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from voxelight.storage.formats.betas import read_betas_mat
from voxelight.storage.formats.found import Intake, Kind
from voxelight.storage.formats.images import read_picture
from voxelight.storage.formats.volumes import read_overview

_HEIGHT = 192
_CELL, _COLUMNS, _CELLS = 48, 8, 16
_LETTER = (255, 210, 60)
_FONT_SIZE = 16
_GAP, _GAP_GREY = 6, 128  # between planes, so that no letter stands beside that of another plane
# axis cut through, axis to the right, axis upwards, letters left, right, bottom and top
_PLANES = [(2, 0, 1, "LRPA"), (1, 0, 2, "LRIS"), (0, 1, 2, "PAIS")]


def thumbnail(path: Path, intake: Intake) -> NDArray[np.uint8] | None:
    """Draw a file that `inspect` accepted.

    Volumes and series (their first volume) show the middle axial, coronal and sagittal plane, the person's left on
    the left, as lettered; betas show their first distinct stimuli; a picture shows itself.

    Returns
    -------
    array (row, column, 3), uint8, or None where there is nothing to see
    """
    draw = _DRAWERS.get(intake.kind)
    return None if draw is None else draw(path, f"file{intake.suffix}")


def _planes(path: Path, name: str) -> NDArray[np.uint8]:
    volume, geometry = read_overview(path, name)
    np.nan_to_num(volume, copy=False, posinf=0, neginf=0)
    low, high = np.percentile(volume, (1, 99.5))
    if high <= low:
        low, high = float(volume.min()), float(volume.max())
    extent_mm = np.multiply(geometry.shape, geometry.spacing)
    greys = low, max(high - low, 1e-12)
    gap = np.full((_HEIGHT, _GAP, 3), _GAP_GREY, np.uint8)
    first, *others = (_plane(volume, greys, extent_mm, *plane) for plane in _PLANES)
    return np.concatenate([first, *(part for other in others for part in (gap, other))], axis=1)


def _plane(
    volume: NDArray[np.float32],
    greys: tuple[float, float],
    extent_mm: NDArray[np.float64],
    cut: int,
    right: int,
    up: int,
    letters: str,
) -> NDArray[np.uint8]:
    low, span = greys
    plane = np.take(volume, volume.shape[cut] // 2, axis=cut)
    middle = (((plane - low) / span).clip(0, 1) * 255).astype(np.uint8).T[::-1]  # rows from top, columns from left
    scale = _HEIGHT / extent_mm.max()  # one scale for all planes
    size = max(1, round(extent_mm[right] * scale)), max(1, round(extent_mm[up] * scale))
    square = Image.new("RGB", (_HEIGHT, _HEIGHT))
    scaled = Image.fromarray(np.ascontiguousarray(middle)).resize(size, Image.Resampling.BILINEAR)
    square.paste(scaled, ((_HEIGHT - size[0]) // 2, (_HEIGHT - size[1]) // 2))
    _letter(square, letters)
    return np.asarray(square)


def _letter(square: Image.Image, letters: str) -> None:
    """Write which way is which at the four sides, legible on black and on white."""
    pen, font = ImageDraw.Draw(square), ImageFont.load_default(_FONT_SIZE)
    near, middle, far = 3, _HEIGHT // 2, _HEIGHT - 3
    places = (((near, middle), "lm"), ((far, middle), "rm"), ((middle, far), "md"), ((middle, near), "ma"))
    for letter, (place, anchor) in zip(letters, places, strict=True):
        pen.text(place, letter, fill=_LETTER, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _sheet(path: Path, name: str) -> NDArray[np.uint8]:
    images = read_betas_mat(path, name=name)[1].images[:_CELLS]
    rows = -(-len(images) // _COLUMNS)
    sheet = np.full((rows * (_CELL + 2), min(len(images), _COLUMNS) * (_CELL + 2), 3), 64, dtype=np.uint8)
    for place, image in enumerate(images):
        top, left = (place // _COLUMNS) * (_CELL + 2), (place % _COLUMNS) * (_CELL + 2)
        cell = Image.fromarray(np.rint(image[..., 0] * 255).astype(np.uint8)).resize((_CELL, _CELL), 0)
        sheet[top + 1 : top + 1 + _CELL, left + 1 : left + 1 + _CELL] = np.asarray(cell)[..., np.newaxis]
    return sheet


def _picture(path: Path, name: str) -> NDArray[np.uint8]:
    pixels = np.rint(read_picture(path, name) * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))
    picture.thumbnail((_HEIGHT, _HEIGHT))
    return np.asarray(picture)


_DRAWERS: dict[Kind, Callable[[Path, str], NDArray[np.uint8]]] = {
    "volume": _planes,
    "series": _planes,
    "betas": _sheet,
    "picture": _picture,
}
