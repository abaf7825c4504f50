"""Contact sheets: what was seen beside what was decoded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Stimuli
from voxelight.neuro.folds import FoldReconstruction, find_pictures

NOTICE = "model estimate, not a photograph of thought"
SIMULATED = "Simulated data"

_CELL_INCHES = 0.8
_PAIRS_A_ROW = 5
_MARGIN_INCHES = 0.7


def draw_pairs(
    stimuli: Stimuli,
    reconstructions: Sequence[FoldReconstruction],
    simulated: bool,
    title: str = "Seen and reconstructed",
    most: int = 40,
) -> NDArray[np.uint8]:
    """Draw each stimulus with its reconstruction to its right.

    Where there are more stimuli than fit, every fold shows its first ones, as many as the others.

    Parameters
    ----------
    stimuli : Stimuli
    reconstructions : folds
    simulated : whether to say so on the sheet
    title : above the pictures
    most : pairs on the sheet at most, one a fold at least

    Returns
    -------
    array (row, column, 3), uint8

    Raises
    ------
    BadInput
        There is nothing to draw, or a stimulus has no picture.
    """
    if not reconstructions:
        raise BadInput("no reconstruction", "at least one", "Draw once a fold is done.")
    each = max(1, most // len(reconstructions))
    seen = np.concatenate([find_pictures(stimuli, fold.stimulus_ids[:each]) for fold in reconstructions])
    decoded = np.concatenate([fold.images[:each] for fold in reconstructions])
    columns = min(_PAIRS_A_ROW, len(seen))
    rows = -(-len(seen) // columns)
    figure = Figure(figsize=(columns * 2.3 * _CELL_INCHES, rows * 1.1 * _CELL_INCHES + 2 * _MARGIN_INCHES), dpi=150)
    canvas: Any = FigureCanvasAgg(figure)
    _write(figure, title, simulated)
    margin = _MARGIN_INCHES / figure.get_figheight()
    grid = figure.add_gridspec(
        rows, columns, left=0.02, right=0.98, top=1 - margin, bottom=margin, wspace=0.12, hspace=0.12
    )
    for place, pair in enumerate(zip(seen, decoded, strict=True)):
        cell = grid[place // columns, place % columns].subgridspec(1, 2, wspace=0.04)
        for side, image in enumerate(pair):
            _show(figure.add_subplot(cell[side]), image)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _write(figure: Any, title: str, simulated: bool) -> None:
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.3 / height, title, fontsize=10, weight="bold", va="center")
    if simulated:
        figure.text(0.98, 1 - 0.3 / height, SIMULATED, fontsize=10, weight="bold", va="center", ha="right", color="C3")
    figure.text(0.02, 1 - 0.52 / height, "left: stimulus, right: reconstruction", fontsize=7, va="center")
    figure.text(0.02, 0.4 / height, f"Right: {NOTICE}.", fontsize=7, va="center")
    figure.text(0.02, 0.2 / height, "Not for clinical use.", fontsize=7, va="center")


def _show(axes: Any, image: NDArray[np.float32]) -> None:
    axes.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
