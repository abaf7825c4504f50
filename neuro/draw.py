"""Contact sheets: what was seen beside what was decoded."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
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
RANDOM_WEIGHTS = "RANDOM WEIGHTS: these pictures mean nothing"

_CELL_INCHES = 0.8
_PAIRS_A_ROW = 5
_MARGIN_INCHES = 0.7
_STAGE_INCHES = 1.15
_CAPTION_INCHES = 0.42
_CELLS_A_ROW = 8
_CAPTION_LETTERS = 17  # in a line below one picture
_CAPTION_LINES = 2


@dataclass(frozen=True, eq=False)
class DecodedStages:
    """What is known of one stimulus, from what was seen to the final picture.

    Parameters
    ----------
    stimulus_id : its id
    pictures : stage -> array (row, column, 1 or 3), float32 in [0, 1], in the order of the stages
    caption : what was decoded in words
    """

    stimulus_id: str
    pictures: dict[str, NDArray[np.float32]]
    caption: str = ""


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
    _write(figure, title, "left: stimulus, right: reconstruction", f"Right: {NOTICE}.", [SIMULATED] * simulated)
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


def draw_stages(
    decoded: Sequence[DecodedStages],
    simulated: bool,
    random_weights: bool,
    title: str = "Seen and decoded",
    most: int = 24,
) -> NDArray[np.uint8]:
    """Draw what was seen, the stages that were decoded from the responses to it, and the caption below.

    Parameters
    ----------
    decoded : one a stimulus, the first `most` of which are drawn
    simulated : whether to say on the sheet that nobody was scanned
    random_weights : whether to say on the sheet that nothing was learnt
    title : above the pictures
    most : stimuli on the sheet at most

    Returns
    -------
    array (row, column, 3), uint8

    Raises
    ------
    BadInput
        There is no picture to draw.
    """
    shown = decoded[:most]
    stages = list(dict.fromkeys(stage for each in shown for stage in each.pictures))
    if not stages:
        raise BadInput("no picture", "at least one", "Draw once a stimulus is decoded to a picture.")
    columns = max(1, min(_CELLS_A_ROW // len(stages), len(shown)))
    rows = -(-len(shown) // columns)
    width = max(5.6, columns * len(stages) * _STAGE_INCHES)
    height = rows * (_STAGE_INCHES + _CAPTION_INCHES) + 2 * _MARGIN_INCHES
    figure = Figure(figsize=(width, height), dpi=150)
    canvas: Any = FigureCanvasAgg(figure)
    marks = [SIMULATED] * simulated + [RANDOM_WEIGHTS] * random_weights
    _write(figure, title, "below: what was decoded in words", f"Decoded: {NOTICE}.", marks)
    margin = _MARGIN_INCHES / height
    grid = figure.add_gridspec(
        rows, columns, left=0.02, right=0.98, top=1 - margin, bottom=margin, wspace=0.06, hspace=0.05
    )
    for place, each in enumerate(shown):
        _draw_stages(figure, grid[place // columns, place % columns], each, stages)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_stages(figure: Any, place: Any, decoded: DecodedStages, stages: Sequence[str]) -> None:
    above, below = place.subgridspec(2, 1, height_ratios=(_STAGE_INCHES, _CAPTION_INCHES), hspace=0.02)
    cells = above.subgridspec(1, len(stages), wspace=0.04)
    for number, stage in enumerate(stages):
        axes = figure.add_subplot(cells[number])
        axes.set_axis_off()
        if stage in decoded.pictures:
            _show(axes, decoded.pictures[stage])
            axes.set_title(stage, fontsize=6, pad=2)
    words = figure.add_subplot(below)
    words.set_axis_off()
    lines = textwrap.wrap(decoded.caption, _CAPTION_LETTERS * len(stages), max_lines=_CAPTION_LINES, placeholder=" ...")
    words.text(0, 1, decoded.stimulus_id, fontsize=5.5, color="0.45", va="top", parse_math=False)
    words.text(0, 0.68, "\n".join(lines), fontsize=6.5, va="top", parse_math=False)


def _write(figure: Any, title: str, legend: str, foot: str, marks: Sequence[str]) -> None:
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.3 / height, title, fontsize=10, weight="bold", va="center")
    for line, mark in enumerate(marks):
        place = 1 - (0.3 - 0.2 * (len(marks) - 1) / 2 + 0.2 * line) / height
        figure.text(0.98, place, mark, fontsize=10, weight="bold", va="center", ha="right", color="C3")
    figure.text(0.02, 1 - 0.52 / height, legend, fontsize=7, va="center")
    figure.text(0.02, 0.4 / height, foot, fontsize=7, va="center")
    figure.text(0.02, 0.2 / height, "Not for clinical use.", fontsize=7, va="center")


def _show(axes: Any, image: NDArray[np.float32]) -> None:
    axes.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
