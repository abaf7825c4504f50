"""A picture of a label map on its image."""

from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from voxelight.medseg.colours import find_colour
from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap, Volume

_DARK, _PALE, _QUIET = "#101418", "#e8edf2", "#9aa7b4"
_CLOSE_UP = 0.6
_MARGIN_MM = 12.0
_OUTLINE = [withStroke(linewidth=2.5, foreground=_DARK)]


class _Plane(NamedTuple):
    """A plane of a volume: the axis it cuts and the letters at its four ends."""

    title: str
    axis: int
    left: str
    right: str
    top: str
    bottom: str


# Neurological convention: the left side is drawn on the left.
_PLANES = (
    _Plane("coronal", 1, "L", "R", "S", "I"),
    _Plane("axial", 2, "L", "R", "A", "P"),
    _Plane("sagittal", 0, "P", "A", "S", "I"),
)


def draw_overlay(volume: Volume, label_map: LabelMap) -> NDArray[np.uint8]:
    """Draw the three planes that cut most of the labels, and a close-up where the labels are small; a picture as it is.

    Parameters
    ----------
    volume : Volume (c, i, j, k), RAS+; the first channel is drawn
    label_map : on the same grid

    Returns
    -------
    array (h, w, 3), uint8, RGB

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
    if label_map.array.shape[2] == 1:
        return _draw_flat(volume, label_map)
    views = [_whole(label_map)]
    close = _around_labels(label_map)
    if close is not None:
        views.append(close)
    with mpl.rc_context({"font.family": "DejaVu Sans", "text.color": _PALE}):
        figure = Figure(figsize=(12, 0.9 + 4.2 * len(views)), dpi=100, facecolor=_DARK)
        canvas = FigureCanvasAgg(figure)
        foot = 0.9 / figure.get_figheight()
        grid = figure.add_gridspec(
            len(views), 3, left=0.02, right=0.98, top=0.97, bottom=foot, wspace=0.04, hspace=0.06
        )
        at = _fullest(label_map)
        for row, box in enumerate(views):
            for column, plane in enumerate(_PLANES):
                _draw_plane(figure.add_subplot(grid[row, column]), plane, at, box, (volume, label_map))
        _draw_foot(figure, label_map)
        canvas.draw()  # type: ignore[no-untyped-call]
        return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()  # type: ignore[no-untyped-call]


def _draw_flat(volume: Volume, label_map: LabelMap) -> NDArray[np.uint8]:
    """Draw a picture (c, column, row, 1) upright, twice: with its labels, and without."""
    columns, rows = label_map.array.shape[:2]
    with mpl.rc_context({"font.family": "DejaVu Sans", "text.color": _PALE}):
        height = float(np.clip(5.8 * rows / columns, 2.5, 12))
        figure = Figure(figsize=(12, height + 0.9), dpi=100, facecolor=_DARK)
        canvas = FigureCanvasAgg(figure)
        foot = 0.9 / figure.get_figheight()
        grid = figure.add_gridspec(1, 2, left=0.01, right=0.99, top=0.99, bottom=foot, wspace=0.02)
        image = volume.array[:3, ..., 0].T if len(volume.array) >= 3 else volume.array[0, ..., 0].T
        low, high = np.percentile(image, (0.5, 99.5))
        shown = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
        for column in range(2):
            axes = figure.add_subplot(grid[0, column])
            axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            if column == 0:
                axes.imshow(_paint(label_map.array[..., 0].T, label_map), interpolation="nearest")
            axes.set_axis_off()
        _draw_foot(figure, label_map)
        canvas.draw()  # type: ignore[no-untyped-call]
        return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()  # type: ignore[no-untyped-call]


def _fullest(label_map: LabelMap) -> tuple[int, int, int]:
    """Return, for each axis, the plane that cuts most of the labels; the middle where there are none."""
    inside = label_map.array > 0
    if not inside.any():
        i, j, k = (side // 2 for side in inside.shape)
    else:
        i, j, k = (int(inside.sum(axis=tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3))
    return i, j, k


def _whole(label_map: LabelMap) -> NDArray[np.intp]:
    return np.array([(0, side) for side in label_map.array.shape])


def _around_labels(label_map: LabelMap) -> NDArray[np.intp] | None:
    """Return the box of the labels with a margin, or None if it nearly fills the grid or there is no label."""
    at = np.argwhere(label_map.array > 0)
    if not len(at):
        return None
    sides = np.array(label_map.array.shape)
    margin = np.ceil(_MARGIN_MM / np.array(label_map.geometry.spacing)).astype(int)
    box = np.stack([np.maximum(at.min(0) - margin, 0), np.minimum(at.max(0) + 1 + margin, sides)], axis=1)
    return None if ((box[:, 1] - box[:, 0]) / sides).max() > _CLOSE_UP else box


def _draw_plane(
    axes: Axes, plane: _Plane, at: tuple[int, int, int], box: NDArray[np.intp], pair: tuple[Volume, LabelMap]
) -> None:
    volume, label_map = pair
    across, up = (axis for axis in range(3) if axis != plane.axis)
    i, j, k = (slice(low, high) for low, high in box.tolist())
    shown = volume.array[0, i, j, k]
    low, high = np.percentile(shown, (1, 99.5))
    here = at[plane.axis] - int(box[plane.axis, 0])
    image = shown.take(here, plane.axis).T
    labels: NDArray[Any] = np.take(label_map.array[i, j, k], here, axis=plane.axis).T
    spacing = label_map.geometry.spacing
    aspect = spacing[up] / spacing[across]
    axes.imshow(
        image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower", aspect=aspect, interpolation="bicubic"
    )
    axes.imshow(_paint(labels, label_map), origin="lower", aspect=aspect, interpolation="nearest")
    for number in label_map.names:
        if (labels == number).any() and min(labels.shape) > 1:
            axes.contour(labels == number, levels=[0.5], colors=[find_colour(number)], linewidths=1.1)
    axes.set_axis_off()
    _draw_letters(axes, plane)
    world = label_map.geometry.affine[:3, :3] @ np.array(at) + label_map.geometry.affine[:3, 3]
    where = f"{plane.title}  {'xyz'[plane.axis]} = {world[plane.axis]:.0f} mm"
    axes.text(0.02, 0.02, where, transform=axes.transAxes, fontsize=9, color=_PALE, va="bottom", path_effects=_OUTLINE)


def _draw_letters(axes: Axes, plane: _Plane) -> None:
    ends = ((0.02, 0.5, plane.left), (0.98, 0.5, plane.right), (0.5, 0.98, plane.top), (0.5, 0.02, plane.bottom))
    for x, y, letter in ends:
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha={0.02: "left", 0.98: "right"}.get(x, "center"),
            va={0.98: "top", 0.02: "bottom"}.get(y, "center"),
            fontsize=13,
            weight="bold",
            color=_PALE,
            path_effects=_OUTLINE,
        )


def _draw_foot(figure: Figure, label_map: LabelMap) -> None:
    volumes, flat = label_map.volumes_ml(), label_map.array.shape[2] == 1
    sizes = {
        number: f"{np.count_nonzero(label_map.array == number)} pixels" if flat else f"{volumes[name]:.2f} ml"
        for number, name in label_map.names.items()
    }
    handles = [
        Patch(facecolor=find_colour(number), label=f"{name}  {sizes[number]}")
        for number, name in label_map.names.items()
    ]
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.015, 0.0), ncols=min(4, max(1, len(handles))),
                  frameon=False, fontsize=11, labelcolor=_PALE, handlelength=1.2)  # fmt: skip
    figure.text(0.98, 0.02, "Not for clinical use", ha="right", va="bottom", fontsize=11, color=_QUIET)


def _paint(labels: NDArray[Any], label_map: LabelMap) -> NDArray[np.float64]:
    """Return the labels as RGBA, array (row, column, 4)."""
    painted = np.zeros((*labels.shape, 4))
    for number in label_map.names:
        painted[labels == number] = mpl.colors.to_rgba(find_colour(number), 0.38)
    return painted
