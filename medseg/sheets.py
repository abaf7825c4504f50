"""Contact sheets: all of a label map at one look."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from voxelight.medseg.colours import find_colour
from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap, Volume

_GROUND, _PALE, _QUIET, _FRAME = (16, 20, 24), (232, 237, 242), (154, 167, 180), (255, 255, 255)
_TILE, _GAP, _HEAD, _COLUMNS = 200, 6, 26, 6
_LOCALISER = 300
_MARGIN_MM = 15.0
_CLOSE_UP = 0.7
_TINT = 0.28


@dataclass(frozen=True)
class _Plane:
    """The axis that a plane cuts, and the letters at its left, right, top and bottom in neurological convention."""

    title: str
    axis: int
    letters: tuple[str, str, str, str]


_PLANES = (
    _Plane("axial", 2, ("L", "R", "A", "P")),
    _Plane("coronal", 1, ("L", "R", "S", "I")),
    _Plane("sagittal", 0, ("P", "A", "S", "I")),
)
Box = tuple[tuple[int, int], ...]
Pixels = NDArray[np.uint8]


def draw_sheet(volume: Volume, label_map: LabelMap, radiological: bool = False) -> Pixels:
    """Draw a label map on its image: the whole in three planes, then a strip of cuts in each.

    The cuts are spread evenly over the labels. Where the labels are small the strips show their surroundings, and a
    frame in the whole says where that is. Without any label the strips go through the whole image.

    Parameters
    ----------
    volume : Volume (c, i, j, k), RAS+; the first channel is drawn, from its 1st to its 99.5th percentile
    label_map : on the same grid
    radiological : draw the left side of the person on the right of coronal and axial cuts

    Returns
    -------
    array (row, column, 3), uint8, RGB

    Raises
    ------
    BadInput
        The two lie on different grids.
    """
    if not volume.geometry.matches(label_map.geometry):
        raise BadInput(
            f"an image of shape {volume.geometry.shape} and labels of shape {label_map.geometry.shape}",
            "both on one grid",
            "Resample the labels to the image, nearest neighbour.",
        )
    pair = _Pair(_to_grey(volume), label_map, radiological)
    box, whole = _find_box(label_map), tuple((0, side) for side in label_map.array.shape)
    width = _COLUMNS * (_TILE + _GAP) + _GAP
    height = _LOCALISER + len(_PLANES) * (_TILE + _HEAD) + 2 * _GAP
    sheet = Image.new("RGB", (width, height), _GROUND)
    at = [int(np.argmax(_count(label_map, axis))) if label_map.array.any() else side // 2 for axis, side in
          enumerate(label_map.array.shape)]  # fmt: skip
    for place, plane in enumerate(_PLANES):
        tile = pair.draw(plane, at[plane.axis], whole, _LOCALISER, None if box == whole else box)
        sheet.paste(tile, (_GAP + place * (_LOCALISER + _GAP), _GAP))
    _draw_legend(sheet, label_map, radiological, (_GAP + len(_PLANES) * (_LOCALISER + _GAP) + _GAP, _GAP))
    top = _GAP + _LOCALISER
    for plane in _PLANES:
        ImageDraw.Draw(sheet).text((_GAP, top + 4), plane.title.capitalize(), _QUIET, _font(15))
        for place, cut in enumerate(_choose_cuts(label_map, plane.axis)):
            sheet.paste(pair.draw(plane, cut, box, _TILE), (_GAP + place * (_TILE + _GAP), top + _HEAD))
        top += _TILE + _HEAD
    return np.array(sheet, dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class _Pair:
    """An image in grey with its labels, drawn cut by cut."""

    grey: Pixels
    label_map: LabelMap
    radiological: bool

    def draw(self, plane: _Plane, cut: int, box: Box, side: int, frame: Box | None = None) -> Image.Image:
        """Draw one cut within a box of voxels, scaled into a square."""
        flipped = self.radiological and plane.axis != 0
        grey = Image.fromarray(_take(self.grey, plane, cut, box, flipped))
        labels = Image.fromarray(_take(self.label_map.array.astype(np.int32), plane, cut, box, flipped), "I")
        size = _fit(grey.size, plane, self.label_map.geometry.spacing, side)
        pixels = np.repeat(np.array(grey.resize(size, Image.Resampling.BICUBIC))[..., np.newaxis], 3, axis=2)
        _tint(pixels, np.array(labels.resize(size, Image.Resampling.NEAREST)), self.label_map)
        tile = Image.new("RGB", (side, side), _GROUND)
        corner = ((side - size[0]) // 2, (side - size[1]) // 2)
        tile.paste(Image.fromarray(pixels), corner)
        pen = ImageDraw.Draw(tile)
        if frame is not None:
            pen.rectangle(_find_frame(plane, box, frame, size, corner, flipped), outline=_FRAME, width=1)
        _write_letters(pen, plane, side, flipped)
        world = self.label_map.geometry.affine @ np.array([*(cut if axis == plane.axis else 0 for axis in range(3)), 1])
        where = f"{'xyz'[plane.axis]} {world[plane.axis]:.0f} mm"
        pen.text((4, side - 4), where, _PALE, _font(12), "ls", stroke_width=2, stroke_fill=_GROUND)
        return tile


def _to_grey(volume: Volume) -> Pixels:
    image = volume.array[0]
    low, high = np.percentile(image, (1, 99.5))
    scaled = (image - low) / max(float(high - low), 1e-6)
    grey: Pixels = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return grey


def _count(label_map: LabelMap, axis: int) -> NDArray[np.intp]:
    counts: NDArray[np.intp] = np.count_nonzero(label_map.array, axis=tuple({0, 1, 2} - {axis}))
    return counts


def _find_box(label_map: LabelMap) -> Box:
    """Return the surroundings of the labels; the whole grid where they nearly fill it or there are none."""
    whole = tuple((0, side) for side in label_map.array.shape)
    box = []
    for axis, side in enumerate(label_map.array.shape):
        there = np.flatnonzero(_count(label_map, axis))
        if not len(there):
            return whole
        room = int(np.ceil(_MARGIN_MM / label_map.geometry.spacing[axis]))
        box.append((max(0, int(there[0]) - room), min(side, int(there[-1]) + 1 + room)))
    share = max((stop - start) / side for (start, stop), side in zip(box, label_map.array.shape, strict=True))
    return whole if share > _CLOSE_UP else tuple(box)


def _choose_cuts(label_map: LabelMap, axis: int) -> list[int]:
    """Return cuts spread over the labelled ones along an axis, each once."""
    there = np.flatnonzero(_count(label_map, axis))
    if not len(there):
        there = np.arange(label_map.array.shape[axis])
    inner = np.linspace(0, len(there) - 1, _COLUMNS + 2)[1:-1]
    return [int(cut) for cut in dict.fromkeys(there[np.rint(inner).astype(int)].tolist())]


def _take(array: NDArray[Any], plane: _Plane, cut: int, box: Box, flipped: bool) -> NDArray[Any]:
    """Return a cut with the top of the picture first, array (row, column)."""
    window = tuple(cut if axis == plane.axis else slice(*box[axis]) for axis in range(3))
    picture = array[window].T[::-1]
    return np.ascontiguousarray(picture[:, ::-1] if flipped else picture)


def _fit(size: tuple[int, int], plane: _Plane, spacing: tuple[float, float, float], side: int) -> tuple[int, int]:
    across, up = (spacing[axis] for axis in range(3) if axis != plane.axis)
    wide, high = size[0] * across, size[1] * up
    scale = side / max(wide, high)
    return max(1, round(wide * scale)), max(1, round(high * scale))


def _tint(pixels: Pixels, labels: NDArray[np.int32], label_map: LabelMap) -> None:
    """Tint the labels and draw their outline, in place."""
    padded = np.pad(labels, 1, mode="edge")
    edge = np.zeros(labels.shape, dtype=bool)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        edge |= padded[rows : rows + labels.shape[0], columns : columns + labels.shape[1]] != labels
    for number in label_map.names:
        inside = labels == number
        if inside.any():
            colour = np.array(to_rgb(find_colour(number))) * 255
            pixels[inside] = np.rint((1 - _TINT) * pixels[inside] + _TINT * colour).astype(np.uint8)
            pixels[inside & edge] = np.rint(colour).astype(np.uint8)


def _find_frame(
    plane: _Plane, whole: Box, frame: Box, size: tuple[int, int], corner: tuple[int, int], flipped: bool
) -> tuple[float, float, float, float]:
    across, up = (axis for axis in range(3) if axis != plane.axis)
    wide, high = whole[across][1] - whole[across][0], whole[up][1] - whole[up][0]
    left, right = (edge / wide for edge in frame[across])
    if flipped:
        left, right = 1 - right, 1 - left
    top, bottom = 1 - frame[up][1] / high, 1 - frame[up][0] / high
    return (
        corner[0] + left * (size[0] - 1),
        corner[1] + top * (size[1] - 1),
        corner[0] + right * (size[0] - 1),
        corner[1] + bottom * (size[1] - 1),
    )


def _write_letters(pen: ImageDraw.ImageDraw, plane: _Plane, side: int, flipped: bool) -> None:
    left, right, top, bottom = plane.letters
    if flipped:
        left, right = right, left
    places = ((3, side / 2, left, "lm"), (side - 3, side / 2, right, "rm"), (side / 2, 3, top, "mt"))
    for x, y, letter, anchor in (*places, (side / 2, side - 4, bottom, "ms")):
        pen.text((x, y), letter, _PALE, _font(14), anchor, stroke_width=2, stroke_fill=_GROUND)


def _draw_legend(sheet: Image.Image, label_map: LabelMap, radiological: bool, corner: tuple[int, int]) -> None:
    pen, (left, top) = ImageDraw.Draw(sheet), corner
    room = (_LOCALISER - 96) // 24
    for place, (number, name) in enumerate(label_map.names.items()):
        if place == room - 1 and len(label_map.names) > room:
            pen.text((left, top + 4 + 24 * place), f"and {len(label_map.names) - place} more", _QUIET, _font(15))
            break
        y = top + 4 + 24 * place
        pen.rectangle((left, y + 2, left + 14, y + 16), fill=find_colour(number))
        volume = label_map.volumes_ml()[name]
        pen.text((left + 22, y), f"{name[:22]}  {volume:.2f} ml", _PALE, _font(15))
    side = "right" if radiological else "left"
    notes = (
        f"{'Radiological' if radiological else 'Neurological'} convention:",
        f"the person's left is on the {side}.",
        "Not for clinical use.",
    )
    for place, note in enumerate(notes):
        pen.text((left, top + _LOCALISER - 66 + 20 * place), note, _QUIET, _font(14))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
