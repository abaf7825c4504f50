"""The grid of an evaluation as one picture."""

import numpy as np
from numpy.typing import NDArray

from voxelight.neuro.draw import DecodedStages, draw_stages
from voxelight.neuro.evaluate.evaluation import Evaluation


def draw_sheet(evaluation: Evaluation, title: str = "Seen and decoded", most: int = 24) -> NDArray[np.uint8]:
    """Draw the first grid of an evaluation: a stimulus beside what was made of it, one sample of each kind.

    Parameters
    ----------
    evaluation : with a grid
    title : above the pictures
    most : stimuli on the sheet at most

    Returns
    -------
    array (row, column, 3), uint8

    Raises
    ------
    BadInput
        No column has pictures.
    """
    grid = evaluation.grids[0]
    columns = [(column.title, column.pictures) for column in grid.columns if column.pictures is not None]
    captions = grid.captions or ((),) * len(grid.ids)
    rows = [
        DecodedStages(name, {kind: pictures[place, 0] for kind, pictures in columns}, said[0] if said else "")
        for place, (name, said) in enumerate(zip(grid.ids.tolist(), captions, strict=True))
    ]
    conditions = evaluation.conditions
    return draw_stages(rows, conditions.simulated, conditions.random_weights, title, most)
