"""What a person does to a label map: fill in between drawn slices, and how far that leads from the map before."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap


@dataclass(frozen=True)
class Change:
    """How one label of a corrected map differs from that of its base.

    Parameters
    ----------
    added, removed : voxels
    dice : overlap of the two, 1 where both are empty
    """

    added: int
    removed: int
    dice: float


def describe_changes(base: LabelMap, corrected: LabelMap) -> dict[str, Change]:
    """Compare two label maps voxel by voxel.

    Parameters
    ----------
    base, corrected : LabelMap
        On one grid, with one set of names.

    Returns
    -------
    dict of str to Change
        By name of the label.

    Raises
    ------
    BadInput
        They lie on different grids or name different labels.
    """
    if base.names != corrected.names or not base.geometry.matches(corrected.geometry):
        raise BadInput(
            f"a map of {sorted(corrected.names)} on {corrected.geometry.shape} voxels",
            f"a map of {sorted(base.names)} on the grid of its base, {base.geometry.shape} voxels",
            "Correct the label map itself, on its own grid.",
        )
    found = {}
    for number, name in base.names.items():
        before, after = base.array == number, corrected.array == number
        both, together = int(np.count_nonzero(before & after)), int(np.count_nonzero(before) + np.count_nonzero(after))
        found[name] = Change(
            added=int(np.count_nonzero(after)) - both,
            removed=int(np.count_nonzero(before)) - both,
            dice=2 * both / together if together else 1.0,
        )
    return found


def interpolate_slices(label_map: LabelMap, number: int, axis: int, between: tuple[int, int] | None = None) -> LabelMap:
    """Fill a label in between slices on which it is drawn, by the mean of signed distances.

    With d the distance to the edge of the drawn shape, negative inside, a slice a share t of the way from slice a to
    slice b holds the label where (1 - t) d_a + t d_b <= 0; it never takes a voxel from another label. Shapes that do
    not overlap leave a gap between them.

    Parameters
    ----------
    label_map : LabelMap
    number : int
        Of the label.
    axis : int
        0, 1 or 2: what the slices cut, 0 for sagittal, 1 for coronal, 2 for axial ones.
    between : tuple of int, optional
        Two slices that hold the label: what lies between them is drawn anew. Without it, slices that do not hold the
        label, between the nearest ones that do, are filled.

    Returns
    -------
    LabelMap
        A new one.

    Raises
    ------
    BadInput
        The label has no such number, a slice does not hold it, or nothing lies between.

    References
    ----------
    Raya and Udupa 1990, Shape-based interpolation of multidimensional objects: linear between distances.
    """
    if number not in label_map.names:
        raise BadInput(f"the label number {number}", f"one of {sorted(label_map.names)}", "Choose a label of the map.")
    filled = label_map.array.copy()
    array = np.moveaxis(filled, axis, 0)  # a view: what is set here is set there
    drawn = array == number
    for low, high in _find_pairs(drawn, between):
        near, far = (_signed_distance(drawn[at], label_map, axis) for at in (low, high))
        for at in range(low + 1, high):
            share = (at - low) / (high - low)
            array[at][drawn[at]] = 0
            array[at][((1 - share) * near + share * far <= 0) & (array[at] == 0)] = number
    return LabelMap(filled, label_map.geometry, label_map.names)


def _find_pairs(drawn: NDArray[np.bool_], between: tuple[int, int] | None) -> list[tuple[int, int]]:
    there = np.flatnonzero(drawn.any(axis=(1, 2))).tolist()
    remedy = "Draw the label on two slices with others between them."
    if between is not None:
        low, high = sorted(between)
        if low not in there or high not in there or high - low < 2:
            raise BadInput(
                f"slices {low} and {high}, while the label lies on {len(there)} slices",
                "two slices that hold the label, with others between them",
                remedy,
            )
        return [(low, high)]
    pairs = [(low, high) for low, high in pairwise(there) if high - low > 1]
    if not pairs:
        raise BadInput(f"a label on {len(there)} slices without a gap", "empty slices between drawn ones", remedy)
    return pairs


def _signed_distance(inside: NDArray[np.bool_], label_map: LabelMap, axis: int) -> NDArray[np.float64]:
    """Return the distance of every voxel to the edge in mm, negative inside: array as `inside`."""
    spacing = [side for at, side in enumerate(label_map.geometry.spacing) if at != axis]
    outer = ndimage.distance_transform_edt(~inside, sampling=spacing)
    inner = ndimage.distance_transform_edt(inside, sampling=spacing)
    return np.asarray(outer - inner, dtype=np.float64)
