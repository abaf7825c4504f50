"""Pictures of a map over the brain: glass brain and surface in MNI152, projections of the image itself elsewhere."""

import warnings
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from voxelight.app.schemas import DECODING_NOTICE
from voxelight.models.values import Geometry

_COLOURS = "cividis"  # told apart by people who see no red or green
_DPI = 130
# Axis that is looked along, and the letters at the four ends: left, right, top, bottom.
_VIEWS = {
    "from behind": (1, "L", "R", "S", "I"),
    "from above": (2, "L", "R", "A", "P"),
    "from the right": (0, "P", "A", "S", "I"),
}
_SIDES = (("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral"))


def draw_glass_brain(image: Any, title: str, marks: str) -> bytes:
    """Draw a map in MNI152 on a glass brain, as PNG: for every line of sight its largest value."""
    from nilearn.plotting import plot_glass_brain

    figure, top = _open(10, 3.7), _find_top(np.asarray(image.dataobj))
    plot_glass_brain(
        image,
        display_mode="lyrz",
        figure=figure,
        axes=(0, 0.1, 0.93, 0.76),
        cmap=_COLOURS,
        colorbar=False,
        threshold=top / 1000,
        vmin=0,
        vmax=top,
        symmetric_cbar=False,
        plot_abs=True,
    )
    _draw_scale(figure, top)
    return _finish(figure, title, f"Glass brain, MNI152: for every line of sight its largest value. {marks}")


def draw_surface(image: Any, inside: Any, title: str, marks: str) -> bytes:
    """Draw a map in MNI152 on the inflated surface fsaverage5 that nilearn carries, as PNG.

    Parameters
    ----------
    image, inside : map and mask, images of nibabel on one grid; voxels outside the mask lend no value
    title, marks : above and below
    """
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.plotting import plot_surf_stat_map
    from nilearn.surface import vol_to_surf

    mesh = fetch_surf_fsaverage("fsaverage5")
    figure, top = _open(12, 3.7), _find_top(np.asarray(image.dataobj))
    filled = _fill(image, inside)  # else the edge of the mask would be mixed with the zeros beyond it
    for place, (hemisphere, view) in enumerate(_SIDES):
        axes = figure.add_axes((place * 0.23, 0.1, 0.23, 0.76), projection="3d")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice")  # where the mask has no voxel near the surface
            on_surface = vol_to_surf(filled, mesh[f"pial_{hemisphere}"], mask_img=inside, interpolation="linear")
        shown = np.nan_to_num(np.asarray(on_surface, np.float64))
        plot_surf_stat_map(
            mesh[f"infl_{hemisphere}"],
            shown,
            hemi=hemisphere,
            view=view,
            bg_map=mesh[f"sulc_{hemisphere}"],
            bg_on_data=True,
            cmap=_COLOURS,
            vmin=0,
            vmax=top,
            threshold=top / 1000,
            symmetric_cbar=False,
            colorbar=False,
            axes=axes,
            figure=figure,
        )
        axes.set_title(f"{hemisphere}, {view}", fontsize=9, y=0.95)
    _draw_scale(figure, top)
    return _finish(figure, title, f"Surface fsaverage5, inflated. {marks}")


def draw_projections(
    values: NDArray[np.float32], inside: NDArray[np.bool_], place: Geometry, texts: tuple[str, str]
) -> bytes:
    """Draw a map in the space of its own image, as PNG: for every line of sight its largest value.

    Parameters
    ----------
    values, inside : arrays (i, j, k), RAS+
    place : where they lie
    texts : above and below
    """
    figure = _open(10, 4.2)
    spacing = place.spacing
    for number, (title, (axis, *letters)) in enumerate(_VIEWS.items()):
        across, up = (other for other in range(3) if other != axis)
        axes = figure.add_axes((0.03 + number * 0.3, 0.12, 0.28, 0.7))
        flat = np.ma.masked_where(~inside.any(axis), values.max(axis)).T
        aspect = spacing[up] / spacing[across]
        axes.imshow((~inside.any(axis)).T, cmap="gray", vmin=-4, vmax=1, origin="lower", aspect=aspect)
        axes.imshow(
            flat,
            cmap=_COLOURS,
            vmin=0,
            vmax=_find_top(values),
            origin="lower",
            aspect=aspect,
            interpolation="nearest",
        )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title, fontsize=9)
        _write_letters(axes, letters)
    _draw_scale(figure, _find_top(values))
    return _finish(figure, texts[0], texts[1])


def _open(width: float, height: float) -> Any:
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _finish(figure: Any, title: str, foot: str) -> bytes:
    height = figure.get_figheight()
    figure.text(0.015, 1 - 0.22 / height, title, fontsize=11, weight="bold", va="center")
    figure.text(0.015, 0.22 / height, f"{foot}\n{DECODING_NOTICE}", fontsize=7.5, va="center")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_scale(figure: Any, top: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.add_axes((0.945, 0.2, 0.012, 0.55))
    figure.colorbar(ScalarMappable(Normalize(0, top), _COLOURS), cax=axes).ax.tick_params(labelsize=8)


def _fill(image: Any, inside: Any) -> Any:
    """Return an image whose voxels outside the mask have the value of the nearest one inside."""
    from scipy.ndimage import distance_transform_edt

    outside = np.asarray(inside.dataobj) == 0
    places = distance_transform_edt(outside, return_distances=False, return_indices=True)
    return type(image)(np.asarray(image.dataobj)[tuple(places)], image.affine)


def _find_top(values: NDArray[np.float32]) -> float:
    return float(np.abs(values).max()) or 1.0


def _write_letters(axes: Any, letters: list[str]) -> None:
    ends = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03))
    for (x, y), letter in zip(ends, letters, strict=True):
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0}
        axes.text(
            x, y, letter, transform=axes.transAxes, ha="center", va="center", weight="bold", fontsize=10, bbox=box
        )
