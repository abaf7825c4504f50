"""Who is found to have a lesion, and who is not: patient-wise scores as Raidionics has them (Bouget et al. 2021)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput

Condition = Literal["all", "positive", "tp"]
VOLUME_EDGES_ML = (3.0,)  # most misses are smaller
_TINY = 1e-6


@dataclass(frozen=True)
class PatientScore:
    """What is known of one patient's segmentation.

    Parameters
    ----------
    dice : of the foreground, in [0, 1]; 0 where nothing overlaps, also where both are empty
    reference_ml, found_ml : volume of the reference and of what was found
    fold : of the cross-validation
    threshold : from which probability on a voxel counted
    """

    dice: float
    reference_ml: float
    found_ml: float
    fold: int = 0
    threshold: float = 0.5


def score_patient(found: NDArray[Any], reference: NDArray[Any], voxel_ml: float, fold: int = 0) -> PatientScore:
    """Return the score of a patient from two masks.

    Parameters
    ----------
    found, reference : array (i, j, k), true inside
    voxel_ml : volume of a voxel

    Raises
    ------
    BadInput
        The two differ in shape.
    """
    a, b = read_masks(found, reference)
    sizes = np.count_nonzero(a), np.count_nonzero(b)
    overlap = np.count_nonzero(a & b)
    return PatientScore(2 * overlap / max(1, sum(sizes)), sizes[1] * voxel_ml, sizes[0] * voxel_ml, fold)


def read_masks(found: NDArray[Any], reference: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two masks that lie on one grid.

    Raises
    ------
    BadInput
        They differ in shape.
    """
    if found.shape != reference.shape:
        raise BadInput(
            f"masks of shapes {found.shape} and {reference.shape}", "one grid", "Resample one to the other's grid."
        )
    return found.astype(bool), reference.astype(bool)


@dataclass(frozen=True)
class Counts:
    """How many of each kind.

    Parameters
    ----------
    tp, fn, fp, tn : found and there, there and missed, found and not there, neither
    """

    tp: int
    fn: int
    fp: int
    tn: int

    def rates(self) -> dict[str, float]:
        """Return recall, precision, specificity, F1, accuracy and balanced accuracy; a rate of nothing is 0."""
        recall, specificity = self.tp / (self.tp + self.fn + _TINY), self.tn / (self.tn + self.fp + _TINY)
        return {
            "recall": recall,
            "precision": self.tp / (self.tp + self.fp + _TINY),
            "specificity": specificity,
            "f1": 2 * self.tp / (2 * self.tp + self.fp + self.fn + _TINY),
            "accuracy": (self.tp + self.tn) / max(1, self.tp + self.fn + self.fp + self.tn),
            "balanced_accuracy": (recall + specificity) / 2,
        }


def count_voxels(found: NDArray[Any], reference: NDArray[Any]) -> Counts:
    """Count the voxels of two masks.

    Raises
    ------
    BadInput
        The two differ in shape.
    """
    a, b = read_masks(found, reference)
    kinds = (a & b, ~a & b, a & ~b, ~a & ~b)
    return Counts(*(int(np.count_nonzero(kind)) for kind in kinds))


def count_patients(
    scores: Sequence[PatientScore], condition: Condition = "tp", volume_ml: float = 0.1, cut_off: float = 0.1
) -> Counts:
    """Count patients who are found and missed.

    Parameters
    ----------
    scores : of the patients
    condition : ``all``: a reference is there, and anything is found; ``positive``: both above `volume_ml`; ``tp``: the
        reference is above `volume_ml`, and what is found has a Dice above `cut_off`
    volume_ml : smaller volumes count as nothing
    cut_off : Dice above which a patient is found
    """
    least = 0.0 if condition == "all" else volume_ml
    there = [score.reference_ml > least for score in scores]
    seen = [score.found_ml > least for score in scores]
    hit = [score.dice > cut_off for score in scores] if condition == "tp" else seen
    return Counts(
        tp=sum(t and h for t, h in zip(there, hit, strict=True)),
        fn=sum(t and not h for t, h in zip(there, hit, strict=True)),
        fp=sum(s and not t for t, s in zip(there, seen, strict=True)),
        tn=sum(not s and not t for t, s in zip(there, seen, strict=True)),
    )


def dice_of_found(scores: Sequence[PatientScore], volume_ml: float = 0.1, cut_off: float = 0.1) -> float:
    """Return the mean Dice of the patients who are found (Dice-TP); NaN where none is."""
    found = [score.dice for score in scores if score.reference_ml > volume_ml and score.dice > cut_off]
    return float(np.mean(found)) if found else float("nan")


def choose_operating_point(
    scores: Sequence[PatientScore], cut_offs: Sequence[float], volume_ml: float = 0.1
) -> tuple[float, float]:
    """Return the probability threshold and the cut-off with the largest (Dice of found + recall) / 2.

    Parameters
    ----------
    scores : of every patient at every threshold; of cases that are not those to be reported
    cut_offs : to choose from

    Raises
    ------
    BadInput
        There is no score.
    """
    if not scores or not cut_offs:
        raise BadInput("no score to choose by", "at least one patient and one cut-off", "Score some patients first.")

    def value(point: tuple[float, float]) -> float:
        chosen = [score for score in scores if score.threshold == point[0]]
        recall = count_patients(chosen, "tp", volume_ml, point[1]).rates()["recall"]
        return (float(np.nan_to_num(dice_of_found(chosen, volume_ml, point[1]))) + recall) / 2

    return max(product(sorted({score.threshold for score in scores}), sorted(cut_offs)), key=value)


def rates_by_fold(
    scores: Sequence[PatientScore], condition: Condition = "tp", volume_ml: float = 0.1, cut_off: float = 0.1
) -> dict[int, dict[str, float]]:
    """Return the rates of each fold."""
    folds = sorted({score.fold for score in scores})
    parts = {fold: [score for score in scores if score.fold == fold] for fold in folds}
    return {fold: count_patients(part, condition, volume_ml, cut_off).rates() for fold, part in parts.items()}


def rates_by_volume(
    scores: Sequence[PatientScore],
    edges_ml: Sequence[float] = VOLUME_EDGES_ML,
    volume_ml: float = 0.1,
    cut_off: float = 0.1,
) -> dict[str, dict[str, float]]:
    """Return patients, recall and Dice of found for each bin of reference volumes.

    Parameters
    ----------
    edges_ml : between bins; an edge belongs to the bin below it
    """
    found = {}
    for name, low, high in name_bins((volume_ml, *edges_ml, float("inf"))):
        part = [score for score in scores if low < score.reference_ml <= high]
        found[name] = {
            "patients": float(len(part)),
            "recall": count_patients(part, "tp", volume_ml, cut_off).rates()["recall"] if part else float("nan"),
            "dice_tp": dice_of_found(part, volume_ml, cut_off),
        }
    return found


def name_bins(ends_ml: Sequence[float]) -> list[tuple[str, float, float]]:
    """Return name, lower and upper end of each bin of volumes between the ends, ml."""
    return [
        (f"above {low:g} ml" if high == float("inf") else f"{low:g} to {high:g} ml", low, high)
        for low, high in pairwise(ends_ml)
    ]


def pool(means: Sequence[float], deviations: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    r"""Return mean and standard deviation over folds, weighed by how many samples each has.

    .. math:: \bar m = \frac{\sum n_f m_f}{\sum n_f}, \qquad s = \sqrt{\frac{\sum (n_f - 1) s_f^2}{\sum (n_f - 1)}}
    """
    n = np.asarray(counts, dtype=float)
    mean = float(np.average(means, weights=n))
    spread = float(np.sqrt(np.sum((n - 1) * np.square(deviations)) / max(1.0, float(np.sum(n - 1)))))
    return mean, spread


def pool_rates(
    by_fold: Mapping[int, Mapping[str, float]], patients: Mapping[int, int]
) -> dict[str, tuple[float, float]]:
    """Return each rate over the folds, weighed by their patients, with its standard deviation from fold to fold."""
    weights = [patients[fold] for fold in by_fold]
    found = {}
    for name in next(iter(by_fold.values()), {}):
        rates = [rates[name] for rates in by_fold.values()]
        found[name] = (float(np.average(rates, weights=weights)), float(np.std(rates)))
    return found
