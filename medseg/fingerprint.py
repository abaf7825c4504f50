"""What a set of cases is like, as far as it decides how a network is made for it (Isensee et al. 2021)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from voxelight.medseg.cases import Case
from voxelight.models.errors import BadInput

_AIR_HU = -500.0  # no other contrast goes so far below zero
_MOST_VOXELS = 10_000


@dataclass(frozen=True)
class CaseFacts:
    """One case: its grid, and the intensities where something is labelled.

    Parameters
    ----------
    shape : (i, j, k), voxels
    spacing : (i, j, k), mm
    channels : of the image
    lowest : smallest intensity
    foreground : intensities of some labelled voxels of the first channel
    labels : numbers that are drawn, background left out
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    channels: int
    lowest: float
    foreground: tuple[float, ...]
    labels: frozenset[int]


@dataclass(frozen=True)
class Fingerprint:
    """A set of cases.

    Parameters
    ----------
    cases : how many
    channels : of every image
    spacing : median over cases, (i, j, k) mm
    coarse_spacing : 10th percentile over cases, which a far coarser axis is brought to
    shape : median over cases, (i, j, k) voxels, at the median spacing
    largest_mm : largest field along each axis
    hounsfield : whether most images reach down to air in Hounsfield units
    foreground : 0.5th and 99.5th percentile, mean and standard deviation of labelled voxels
    labels : numbers that are drawn, with the number of cases that have them
    """

    cases: int
    channels: int
    spacing: tuple[float, float, float]
    coarse_spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    largest_mm: tuple[float, float, float]
    hounsfield: bool
    foreground: tuple[float, float, float, float]
    labels: dict[int, int]


def look_at(case: Case) -> CaseFacts:
    """Return what a fingerprint needs of a case, so that one case at a time is in memory."""
    labels, image = case.labels.array, case.volume.array
    inside = image[0][labels > 0]
    kept = inside[:: max(1, len(inside) // _MOST_VOXELS)]
    return CaseFacts(
        case.volume.geometry.shape,
        tuple(float(side) for side in case.volume.geometry.spacing),  # type: ignore[arg-type]  # three of them
        image.shape[0],
        float(image[0].min()),
        tuple(map(float, kept)),
        frozenset(int(number) for number in np.unique(labels) if number),
    )


def take_fingerprint(cases: Iterable[CaseFacts]) -> Fingerprint:
    """Summarise a set of cases.

    Raises
    ------
    BadInput
        There is no case, nothing is labelled, or cases differ in their channels.
    """
    facts = list(cases)
    if not facts:
        raise BadInput("no case to plan for", "at least one image with labels", "Check the folder.")
    channels = {fact.channels for fact in facts}
    if len(channels) > 1:
        raise BadInput(f"images of {' and '.join(map(str, sorted(channels)))} channels", "one number of channels",
                       "Plan for each kind of image by itself.")  # fmt: skip
    inside = np.array([value for fact in facts for value in fact.foreground])
    if not inside.size:
        raise BadInput("label maps without a label", "at least one labelled voxel", "Check the label maps.")
    spacings, shapes = np.array([fact.spacing for fact in facts]), np.array([fact.shape for fact in facts])
    median = np.median(spacings, axis=0)
    low, high = np.percentile(inside, (0.5, 99.5))
    numbers = sorted({number for fact in facts for number in fact.labels})
    return Fingerprint(
        cases=len(facts),
        channels=channels.pop(),
        spacing=_triple(median),
        coarse_spacing=_triple(np.percentile(spacings, 10, axis=0)),
        shape=tuple(int(side) for side in np.round(np.median(shapes * spacings / median, axis=0))),  # type: ignore[arg-type]
        largest_mm=_triple((shapes * spacings).max(axis=0)),
        hounsfield=bool(np.mean([fact.lowest <= _AIR_HU for fact in facts]) > 0.5),
        foreground=(float(low), float(high), float(inside.mean()), float(inside.std())),
        labels={number: sum(number in fact.labels for fact in facts) for number in numbers},
    )


def _triple(values: "np.typing.NDArray[np.float64]") -> tuple[float, float, float]:
    i, j, k = (float(np.round(value, 4)) for value in values)
    return i, j, k
