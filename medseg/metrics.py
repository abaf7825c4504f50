"""What one label map scores against its reference, label by label, on the grid of the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelight.medseg.distances import measure_surfaces
from voxelight.medseg.lesions import NO_LESIONS, Lesions, match_lesions
from voxelight.medseg.reliability import Reliability, measure_reliability
from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap

Presence = Literal["both", "missed", "invented", "neither"]


@dataclass(frozen=True)
class LabelScores:
    """The scores of one label of one case.

    Where neither map holds the label, there is nothing to agree on and every score is None. Where one of the two holds
    it, Dice, IoU and surface Dice are 0 and the distance is the diagonal of the image.

    Parameters
    ----------
    presence : where the label is: in `both` maps, `missed` (reference only), `invented` (found only) or `neither`
    dice, iou : overlap in [0, 1]
    hd95_mm : distance within which 95 % of each surface lies of the other, the larger of the two
    nsd : share of both surfaces within the tolerance of the other, in [0, 1]
    found_ml, reference_ml : volumes
    lesions : what hangs together, drawn and found, one to one
    """

    presence: Presence
    dice: float | None
    iou: float | None
    hd95_mm: float | None
    nsd: float | None
    found_ml: float
    reference_ml: float
    lesions: Lesions = NO_LESIONS

    @property
    def volume_error_ml(self) -> float | None:
        """Volume found too much, negative: too little; None where neither holds the label."""
        return None if self.presence == "neither" else self.found_ml - self.reference_ml

    @property
    def volume_error_percent(self) -> float | None:
        """The same in percent of the reference; None where that is empty."""
        return 100 * (self.found_ml - self.reference_ml) / self.reference_ml if self.reference_ml > 0 else None


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case.

    Parameters
    ----------
    case, person : names; cases of one person count together
    labels : label name -> scores
    reliability, border : whether the network is as certain as it is right, everywhere and around the border of the
        reference; None where no confidence was stored
    """

    case: str
    person: str
    labels: dict[str, LabelScores]
    reliability: Reliability | None = None
    border: Reliability | None = None


def score_case(
    found: LabelMap,
    reference: LabelMap,
    tolerance_mm: float,
    case: str = "",
    person: str = "",
    confidence: NDArray[np.floating[Any]] | None = None,
    regions: Mapping[str, Sequence[str]] | None = None,
) -> CaseScores:
    """Score one label map against its reference.

    Parameters
    ----------
    found, reference : LabelMap on one grid; labels are matched by name, those of the reference are scored
    tolerance_mm : of the normalised surface distance
    case, person : names
    confidence : array (i, j, k), probability of each voxel's label in [0, 1]
    regions : name -> names of labels that are scored as one besides, such as a whole tumour

    Raises
    ------
    BadInput
        The two lie on different grids, or share no label name; or a region is of labels that the reference has not.
    """
    refuse_unlike(found, reference, case)
    numbers = {name: number for number, name in found.names.items()}
    drawn = {name: number for number, name in reference.names.items()}
    parts = {name: (name,) for name in drawn if name in numbers} | {
        name: _check_region(name, labels, drawn) for name, labels in (regions or {}).items()
    }
    labels = {
        part: score_label(
            np.isin(found.array, [numbers[name] for name in names if name in numbers]),
            np.isin(reference.array, [drawn[name] for name in names]),
            found.geometry.spacing,
            tolerance_mm,
        )
        for part, names in parts.items()
    }
    if confidence is None:
        return CaseScores(case, person, labels)
    right = _renumber(found, numbers, reference) == reference.array
    everywhere, border = measure_reliability(confidence, right, reference)
    return CaseScores(case, person, labels, everywhere, border)


def score_label(
    found: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: tuple[float, float, float], tolerance_mm: float
) -> LabelScores:
    """Score one region against its reference.

    Parameters
    ----------
    found, reference : array (i, j, k)
    spacing : voxel size (i, j, k), mm
    tolerance_mm : of the normalised surface distance
    """
    sizes = np.count_nonzero(found), np.count_nonzero(reference)
    found_ml, reference_ml = (float(size * np.prod(spacing) / 1000) for size in sizes)
    if not any(sizes):
        return LabelScores("neither", None, None, None, None, found_ml, reference_ml)
    lesions = match_lesions(found, reference, float(np.prod(spacing)) / 1000)
    if not all(sizes):
        diagonal = float(np.linalg.norm(np.array(found.shape) * spacing))
        where: Presence = "missed" if sizes[1] else "invented"
        return LabelScores(where, 0.0, 0.0, diagonal, 0.0, found_ml, reference_ml, lesions)
    shared = np.count_nonzero(found & reference)
    surfaces = measure_surfaces(found, reference, spacing)
    return LabelScores(
        "both",
        2 * shared / sum(sizes),
        shared / (sum(sizes) - shared),
        surfaces.hausdorff(),
        surfaces.surface_dice(tolerance_mm),
        found_ml,
        reference_ml,
        lesions,
    )


def _check_region(name: str, labels: Sequence[str], drawn: Mapping[str, int]) -> tuple[str, ...]:
    strange = [label for label in labels if label not in drawn]
    if strange or not labels or name in drawn:
        raise BadInput(f"the region {name!r} of {', '.join(labels) or 'nothing'}", f"of {', '.join(drawn)}",
                       "Name labels of the reference, and the region as none of them.")  # fmt: skip
    return tuple(labels)


def refuse_unlike(found: LabelMap, reference: LabelMap, case: str) -> None:
    """Refuse two label maps that can't be compared.

    Raises
    ------
    BadInput
        They lie on different grids, or share no label name.
    """
    if not found.geometry.matches(reference.geometry, tolerance_mm=1e-2):
        raise BadInput(
            f"case {case}: label maps of shapes {found.geometry.shape} and {reference.geometry.shape}, or placed apart",
            "one grid",
            "Resample the reference to the image that was segmented, nearest neighbour.",
        )
    if not set(found.names.values()) & set(reference.names.values()):
        raise BadInput(
            f"case {case}: labels {', '.join(found.names.values())} and {', '.join(reference.names.values())}",
            "at least one label of one name",
            "Name the labels of the reference as the recipe does.",
        )


def _renumber(found: LabelMap, numbers: dict[str, int], reference: LabelMap) -> NDArray[np.int64]:
    """Return the label map with the numbers of the reference; a label that it does not know has one of its own."""
    table = np.full(max([*found.names, 0]) + 1, -1)
    table[0] = 0
    for number, name in reference.names.items():
        if name in numbers:
            table[numbers[name]] = number
    renumbered: NDArray[np.int64] = table[found.array]
    return renumbered
