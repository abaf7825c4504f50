"""Objects one by one: told apart where they touch, and counted against a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from voxelight.medseg.detection import Counts
from voxelight.medseg.recipes.recipe import Instances
from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap

THRESHOLDS = (0.5, 0.7)
_MOST = 2**16 - 1


def split_instances(label_map: LabelMap, options: Instances) -> LabelMap:
    """Tell apart the objects of a label map that has their insides and their borders.

    Each inside that hangs together by faces is a seed, or several where it has necks (`Instances.split_depth`); the
    borders around it are shared out by a watershed on the distance from the seeds. What has a border and no inside is
    an object of its own.

    Parameters
    ----------
    label_map : with the labels that the options name
    options : Instances

    Returns
    -------
    LabelMap, uint16, on the same grid: 1, 2 ... in the order of their first voxel, named by their number

    Raises
    ------
    BadInput
        There are more objects than 65535.
    """
    inside = label_map.array == options.inside
    whole = inside | (label_map.array == options.border)
    seeds = _find_seeds(inside, options)
    count = int(seeds.max(initial=0))
    pieces, _ = ndimage.label(whole)
    seeded = np.unique(pieces[inside])
    alone = whole & ~np.isin(pieces, seeded)
    seeds[alone] = ndimage.label(alone)[0][alone] + count
    far = ndimage.distance_transform_edt(seeds == 0)
    numbered = watershed(far, seeds, mask=whole) if seeds.any() else seeds  # type: ignore[no-untyped-call]
    kept = _renumber(numbered, options.smallest)
    names = {number: f"{number}" for number in range(1, int(kept.max()) + 1)}
    return LabelMap(kept, label_map.geometry, names)


def _find_seeds(inside: NDArray[np.bool_], options: Instances) -> NDArray[Any]:
    """Return the insides numbered, cut at necks by a watershed from the maxima of the distance to the outside."""
    pieces, _ = ndimage.label(inside)
    if not options.split_depth or not inside.any():
        return pieces
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), options.split_smoothing)
    highest = h_maxima(depth, options.split_depth).astype(bool)  # type: ignore[no-untyped-call]
    peaks, found = ndimage.label(highest & inside)
    shallow = inside & ~np.isin(pieces, np.unique(pieces[peaks > 0]))  # too small to have a maximum
    peaks[shallow] = pieces[shallow] + found
    return watershed(-depth, peaks, mask=inside)  # type: ignore[no-any-return,no-untyped-call]


def _renumber(numbered: NDArray[Any], smallest: int) -> NDArray[np.uint16]:
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    kept = np.flatnonzero(sizes >= smallest)
    if len(kept) > _MOST:
        raise BadInput(f"{len(kept)} objects", f"at most {_MOST}", "Cut the picture, or leave out small ones.")
    table = np.zeros(len(sizes), np.uint16)
    table[kept] = np.arange(1, len(kept) + 1)
    renumbered: NDArray[np.uint16] = table[numbered]
    return renumbered


@dataclass(frozen=True)
class InstanceScores:
    """The objects of one picture against its reference.

    Parameters
    ----------
    counts : smallest IoU of a pair -> objects found, missed and made up
    foreground_dice : of all objects as one; None where neither has any
    """

    counts: Mapping[float, Counts]
    foreground_dice: float | None


def score_instances(
    found: NDArray[np.integer[Any]], reference: NDArray[np.integer[Any]], thresholds: Sequence[float] = THRESHOLDS
) -> InstanceScores:
    """Match objects one to one so that most pairs reach an IoU (Caicedo et al. 2019), for each of several.

    Parameters
    ----------
    found, reference : arrays of one shape, number of the object or 0
    thresholds : a pair counts if its IoU is above

    Raises
    ------
    BadInput
        The two differ in shape.
    """
    if found.shape != reference.shape:
        raise BadInput(f"maps of shapes {found.shape} and {reference.shape}", "one grid", "Resample the reference.")
    ours, theirs = (np.unique(array, return_inverse=True) for array in (found, reference))
    table = np.zeros((len(ours[0]), len(theirs[0])))
    np.add.at(table, (ours[1].ravel(), theirs[1].ravel()), 1)
    sizes = table.sum(axis=1), table.sum(axis=0)
    union = sizes[0][:, None] + sizes[1][None] - table
    iou = (table / union)[np.ix_(ours[0] > 0, theirs[0] > 0)]
    counts = {}
    for threshold in thresholds:
        good = iou > threshold
        pairs = int(good[linear_sum_assignment(~good)].sum()) if good.size else 0
        counts[threshold] = Counts(tp=pairs, fn=iou.shape[1] - pairs, fp=iou.shape[0] - pairs, tn=0)
    a, b = found > 0, reference > 0
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return InstanceScores(counts, 2 * np.count_nonzero(a & b) / total if total else None)
