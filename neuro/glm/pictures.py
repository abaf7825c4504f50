"""Pictures of an estimation: the design of a run, and maps over the brain, slice by slice."""

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from voxelight.neuro.glm.frames import Frame

Floats = NDArray[np.floating[Any]]

_DPI, _SLICES = 110, 15


def draw_design(frame: Frame, response: int, title: str) -> bytes:
    """Draw what a run was explained by: trials, components and nuisance side by side, a row a volume; PNG.

    Parameters
    ----------
    frame : of the run
    response : number in the library by which trials are drawn
    title : of the picture
    """
    parts = [frame.designs[response], frame.components, frame.basis]
    scaled = [part / np.maximum(np.abs(part).max(0), 1e-12) for part in parts if part.shape[1]]
    matrix = np.concatenate(scaled, axis=1)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(matrix, aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    names = ("trials", "components", "of no interest")
    counts = [part.shape[1] for part in parts]
    edges = np.cumsum([0, *counts])
    ticks = [(edges[place] + count / 2 - 0.5, f"{name} ({count})")
             for place, (name, count) in enumerate(zip(names, counts, strict=True)) if count]  # fmt: skip
    axes.set_xticks([place for place, _ in ticks], [name for _, name in ticks], rotation=20, ha="right")
    for edge in edges[1:-1]:
        axes.axvline(edge - 0.5, color="black", linewidth=0.8)
    axes.set_ylabel("volume")
    axes.set_title(title, fontsize=9)
    figure.colorbar(shown, ax=axes, label="share of the largest value")
    return _encode(figure)


def draw_map(volume: Floats, title: str, label: str, limits: tuple[float, float] | None = None) -> bytes:
    """Draw axial slices of a map, the person's left on the left; PNG.

    Parameters
    ----------
    volume : array (i, j, k), RAS+, NaN where nothing is known
    title, label : of the picture and of its scale
    limits : of the scale; left out, those of the 2 to 98 % of the values
    """
    inside = np.flatnonzero(np.isfinite(volume).any((0, 1)))
    planes = inside[np.unique(np.linspace(0, len(inside) - 1, _SLICES).round().astype(int))] if len(inside) else [0]
    known = volume[np.isfinite(volume)]
    low, high = limits or (tuple(np.percentile(known, (2, 98))) if known.size else (0, 1))
    columns = min(5, len(planes))
    rows = -(-len(planes) // columns)
    figure = Figure(figsize=(1.7 * columns + 1, 1.9 * rows + 0.5), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    shown: Any = None
    for axes, plane in zip(grid, planes, strict=False):
        shown = axes.imshow(volume[:, :, plane].T, origin="lower", cmap="viridis", vmin=low, vmax=high)
        axes.set_title(f"slice {plane}", fontsize=7)
    for axes in grid:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=9)
    figure.colorbar(shown, ax=grid.tolist(), label=label, shrink=0.8)
    return _encode(figure)


def draw_scores(scores: Floats, chosen: int, title: str) -> bytes:
    """Draw how well held-out runs were predicted by the number of components; PNG."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(np.arange(len(scores)), scores, marker="o", color="tab:blue")
    axes.axvline(chosen, color="tab:orange", linestyle="--", label=f"chosen: {chosen}")
    axes.set_xlabel("components taken out")
    axes.set_ylabel("median correlation, held-out runs")
    axes.set_title(title, fontsize=9)
    axes.legend()
    return _encode(figure)


def _encode(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
