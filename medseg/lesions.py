"""Lesion by lesion: which of those drawn were found, as Raidionics matches them (Bouget et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from voxelight.medseg.detection import VOLUME_EDGES_ML, Counts, name_bins, read_masks

LEAST_VOXELS = 50


@dataclass(frozen=True)
class Lesions:
    """The lesions of one patient, drawn and found.

    Parameters
    ----------
    reference_ml, found_ml : volume of each
    pairs : (place among the drawn, place among the found, Dice) of those that belong together
    """

    reference_ml: tuple[float, ...]
    found_ml: tuple[float, ...]
    pairs: tuple[tuple[int, int, float], ...]


NO_LESIONS = Lesions((), (), ())


def match_lesions(
    found: NDArray[Any], reference: NDArray[Any], voxel_ml: float, least_voxels: int = LEAST_VOXELS
) -> Lesions:
    """Match lesions of two masks one to one, so that the sum of their Dice is largest (Kuhn 1955).

    A lesion is what hangs together by faces. Those that are smaller than `least_voxels` are left out on both sides.

    Parameters
    ----------
    found, reference : array (i, j, k), true inside
    voxel_ml : volume of a voxel

    Raises
    ------
    BadInput
        The two differ in shape.
    """
    mask, drawn = read_masks(found, reference)
    ours, our_sizes = _components(mask, least_voxels)
    theirs, their_sizes = _components(drawn, least_voxels)
    shared = (ours > 0) & (theirs > 0)
    overlap = np.zeros((len(their_sizes), len(our_sizes)))
    np.add.at(overlap, (theirs[shared] - 1, ours[shared] - 1), 1)
    dice = 2 * overlap / (their_sizes[:, None] + our_sizes[None])
    pairs = [(int(r), int(f), float(dice[r, f])) for r, f in zip(*linear_sum_assignment(-dice), strict=True)]
    return Lesions(
        tuple((their_sizes * voxel_ml).tolist()),
        tuple((our_sizes * voxel_ml).tolist()),
        tuple(pair for pair in pairs if pair[2] > 0),
    )


def _components(mask: NDArray[np.bool_], least: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return numbered lesions, 0 outside, and their sizes in voxels."""
    numbered, count = ndimage.label(mask)
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    kept = np.flatnonzero(sizes >= least)
    renamed = np.zeros(count + 1, dtype=np.int64)
    renamed[kept + 1] = np.arange(1, len(kept) + 1)
    return renamed[numbered], sizes[kept].astype(float)


def lesions_by_volume(
    patients: Sequence[Lesions], edges_ml: Sequence[float] = VOLUME_EDGES_ML, cut_off: float = 0.1
) -> dict[str, Counts]:
    """Count lesions of all volumes, and of each bin of them that has any.

    Parameters
    ----------
    patients : of `match_lesions`
    edges_ml : between bins; an edge belongs to the bin below it
    cut_off : Dice above which a pair counts

    Returns
    -------
    name of the bin -> Counts; empty without any lesion
    """
    found = {"all": count_lesions(patients, cut_off)}
    for name, low, high in name_bins((0.0, *edges_ml, float("inf"))):
        found[name] = count_lesions(patients, cut_off, low, high)
    return {name: counts for name, counts in found.items() if counts.tp + counts.fn + counts.fp}


def count_lesions(
    patients: Sequence[Lesions], cut_off: float = 0.1, least_ml: float = 0.0, most_ml: float = float("inf")
) -> Counts:
    """Count lesions that were found, missed and made up; there is no lesion that is rightly absent.

    Parameters
    ----------
    patients : of `match_lesions`
    cut_off : Dice above which a pair counts
    least_ml, most_ml : bounds of a bin of volumes, the upper one within: of the reference for those found and missed,
        of what was found for those made up
    """
    tp = fn = fp = 0
    for lesions in patients:
        hits = {(r, f) for r, f, dice in lesions.pairs if dice > cut_off}
        seen, matched = {r for r, _ in hits}, {f for _, f in hits}
        inside = [r for r, ml in enumerate(lesions.reference_ml) if least_ml < ml <= most_ml]
        tp += sum(r in seen for r in inside)
        fn += sum(r not in seen for r in inside)
        fp += sum(least_ml < ml <= most_ml and f not in matched for f, ml in enumerate(lesions.found_ml))
    return Counts(tp, fn, fp, tn=0)
