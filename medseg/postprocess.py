"""Clean a label map: leave out pieces that are too small, fill holes; and say what was changed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelight.models.values import LabelMap

_TOUCHING = np.ones((3, 3, 3))  # corners included, as `medseg.quality` counts pieces
Labels = NDArray[np.uint8] | NDArray[np.uint16]
Box = tuple[slice, ...]


@dataclass(frozen=True)
class Cleaning:
    """What was changed of one label.

    Parameters
    ----------
    pieces : how many were left out
    removed_ml : their volume
    filled_ml : volume of its holes, which belong to it now
    """

    pieces: int = 0
    removed_ml: float = 0.0
    filled_ml: float = 0.0


def clean(
    label_map: LabelMap, smallest_ml: float = 0.0, fill_holes: bool = False
) -> tuple[LabelMap, dict[str, Cleaning]]:
    """Leave out pieces below a volume, then fill the holes of what is left, label by label.

    A piece is what touches, corners included; left out, it becomes background. A hole is background that a label
    encloses on every side; another label inside stays.

    Parameters
    ----------
    label_map : is not changed
    smallest_ml : pieces with less than this volume go; 0: none goes
    fill_holes : whether holes are filled

    Returns
    -------
    LabelMap; label name -> Cleaning, for labels that changed
    """
    labels, voxel_ml = label_map.array.copy(), label_map.geometry.voxel_ml
    done: dict[str, Cleaning] = {}
    boxes = list(_find_boxes(labels)) if smallest_ml > 0 or fill_holes else []
    for number, box in boxes:
        part = labels[box]
        pieces, removed = _remove_small(part, number, smallest_ml / voxel_ml)
        filled = _fill(part, number) if fill_holes else 0
        if pieces or filled:
            done[label_map.names[number]] = Cleaning(pieces, removed * voxel_ml, filled * voxel_ml)
    return (LabelMap(labels, label_map.geometry, label_map.names) if done else label_map), done


def _find_boxes(labels: Labels) -> Iterator[tuple[int, Box]]:
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            yield number, box


def _remove_small(part: Labels, number: int, smallest: float) -> tuple[int, int]:
    """Set small pieces to background, in place; return how many there were, and their voxels."""
    if smallest <= 1:
        return 0, 0
    pieces, count = ndimage.label(part == number, _TOUCHING)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    small = sizes < smallest * (1 - 1e-9)
    small[0] = False
    part[small[pieces]] = 0
    return int(small.sum()), int(sizes[small].sum())


def _fill(part: Labels, number: int) -> int:
    """Give holes to the label around them, in place; return their voxels."""
    inside = part == number
    holes = ndimage.binary_fill_holes(inside) & (part == 0)
    part[holes] = number
    return int(np.count_nonzero(holes))
