"""The lesions of one person over visits that were registered to the first: which is which, how much each changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelight.medseg.followup import Growth, MinimalChange, Timepoint, follow
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap

_TOUCHING = np.ones((3, 3, 3))


@dataclass(frozen=True, eq=False)
class Visit:
    """A label map of one visit, and how its space lies in that of the first.

    Parameters
    ----------
    session : label of the visit
    label_map : on the grid of its own image
    to_first : array (4, 4), RAS+ mm of this visit -> RAS+ mm of the first; of the first, the identity
    day : days since any one moment, where known
    """

    session: str
    label_map: LabelMap
    to_first: NDArray[np.float64]
    day: float | None = None


@dataclass(frozen=True)
class Lesion:
    """What overlaps over the visits, taken together: pieces that merge or split stay one lesion.

    Parameters
    ----------
    number : from 1, the largest first
    volumes_ml : session -> volume, counted in the voxels of that visit
    pieces : session -> parts that don't touch
    growth : from visit to visit, and from the first to the last
    """

    number: int
    volumes_ml: dict[str, float]
    pieces: dict[str, int]
    growth: tuple[Growth, ...]

    @property
    def course(self) -> str:
        """What became of it: ``new``, ``gone``, ``new and gone`` or ``persists``."""
        volumes = list(self.volumes_ml.values())
        came, went = volumes[0] == 0, volumes[-1] == 0
        return "new and gone" if came and went else "new" if came else "gone" if went else "persists"


@dataclass(frozen=True)
class Longitudinal:
    """One label of one person over time.

    Parameters
    ----------
    label : name
    lesions : each by itself
    volumes_ml, growth : of all of them together, in what every visit has seen
    outside_ml : session -> volume that lies where another visit has no picture, which is left out
    seen : session -> share of the first field that the visit covers
    """

    label: str
    lesions: tuple[Lesion, ...]
    volumes_ml: dict[str, float]
    growth: tuple[Growth, ...]
    outside_ml: dict[str, float]
    seen: dict[str, float]


def follow_registered(visits: Sequence[Visit], label: str, stated: MinimalChange | None = None) -> Longitudinal:
    """Follow one label over visits that were registered.

    Which lesions belong together is found on the grid of the first visit; volumes are counted in the voxels of each
    visit, so that no interpolation changes them. Only what lies in the field of every visit counts.

    Parameters
    ----------
    visits : two at least, in the order of time
    label : name that every label map has
    stated : minimal change from scan and rescan; a smaller change is not flagged

    Raises
    ------
    BadInput
        There are fewer than two visits, the label is unknown, or no place is seen by all of them.
    """
    if len(visits) < 2 or not all(label in visit.label_map.names.values() for visit in visits):
        raise BadInput(f"{len(visits)} visits, and the label {label!r}", "two visits or more that have the label",
                       "Segment every visit by one recipe.")  # fmt: skip
    grid = visits[0].label_map.geometry
    insides = [_find_inside(visit, label) for visit in visits]
    steps = [np.linalg.inv(grid.affine) @ visit.to_first @ visit.label_map.geometry.affine for visit in visits]
    seen = [_find_seen(visit.label_map.geometry, step, grid.shape) for visit, step in zip(visits, steps, strict=True)]
    common = np.logical_and.reduce(seen)
    if not common.any():
        raise BadInput("visits whose fields do not meet", "scans of one part of the body", "Check the registration.")
    numbers = _find_lesions([_pull(inside, step, grid.shape) for inside, step in zip(insides, steps, strict=True)])
    counted = [
        _count(inside, step, numbers, common, visit.label_map.geometry.voxel_ml)
        for visit, inside, step in zip(visits, insides, steps, strict=True)
    ]
    return Longitudinal(
        label,
        tuple(_describe(visits, counted, stated)),
        {visit.session: float(each.volumes.sum()) for visit, each in zip(visits, counted, strict=True)},
        tuple(_grow(visits, [float(each.volumes.sum()) for each in counted], stated)),
        {visit.session: each.outside for visit, each in zip(visits, counted, strict=True)},
        {visit.session: float(each.mean()) for visit, each in zip(visits, seen, strict=True)},
    )


@dataclass(frozen=True, eq=False)
class _Counted:
    """Of one visit: ml and pieces of each lesion, and ml outside the common field."""

    volumes: NDArray[np.floating[Any]]
    pieces: NDArray[np.int64]
    outside: float


def _find_inside(visit: Visit, label: str) -> NDArray[np.bool_]:
    numbers = [number for number, name in visit.label_map.names.items() if name == label]
    return np.isin(visit.label_map.array, numbers)


def _find_seen(geometry: Geometry, step: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return which voxels of the first grid lie in the field of a visit."""
    at = _map(np.linalg.inv(step), np.indices(shape).reshape(3, -1))
    inside = ((at > -0.5) & (at < np.array(geometry.shape)[:, None] - 0.5)).all(axis=0)
    found: NDArray[np.bool_] = inside.reshape(shape)
    return found


def _pull(inside: NDArray[np.bool_], step: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return a region on the first grid, each voxel as the nearest one of the visit."""
    back = np.linalg.inv(step)
    pulled = ndimage.affine_transform(inside.astype(np.uint8), back[:3, :3], back[:3, 3], output_shape=shape, order=0)
    found: NDArray[np.bool_] = pulled > 0
    return found


def _find_lesions(regions: Sequence[NDArray[np.bool_]]) -> NDArray[np.int32]:
    """Return the number of the nearest lesion for every voxel; a lesion is what touches in any visit, largest first."""
    pieces, count = ndimage.label(np.logical_or.reduce(regions), _TOUCHING)
    if not count:
        return np.zeros(pieces.shape, dtype=np.int32)
    order = np.argsort(-np.bincount(pieces.ravel())[1:], kind="stable")
    renumber = np.zeros(count + 1, dtype=np.int32)
    renumber[1 + order] = np.arange(1, count + 1)
    nearest = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
    numbers: NDArray[np.int32] = renumber[pieces[tuple(nearest)]]
    return numbers


def _count(
    inside: NDArray[np.bool_],
    step: NDArray[np.float64],
    numbers: NDArray[np.int32],
    common: NDArray[np.bool_],
    voxel_ml: float,
) -> _Counted:
    voxels = np.array(np.nonzero(inside))
    at = np.rint(_map(step, voxels)).astype(int)
    held: NDArray[np.bool_] = np.all((at >= 0) & (at < np.array(numbers.shape)[:, None]), axis=0)
    held[held] = common[tuple(at[:, held])]
    count = int(numbers.max(initial=0))
    own = np.zeros(inside.shape, dtype=np.int32)
    own[tuple(voxels[:, held])] = numbers[tuple(at[:, held])]
    pieces = [int(ndimage.label(own == number, _TOUCHING)[1]) for number in range(1, count + 1)]
    volumes = np.bincount(own.ravel(), minlength=count + 1)[1:] * voxel_ml
    return _Counted(volumes, np.array(pieces, dtype=np.int64), float((~held).sum() * voxel_ml))


def _map(step: NDArray[np.floating[Any]], voxels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = step[:3, :3] @ voxels + step[:3, 3:]
    return moved


def _describe(visits: Sequence[Visit], counted: Sequence[_Counted], stated: MinimalChange | None) -> list[Lesion]:
    lesions = []
    for number in range(len(counted[0].volumes)):
        volumes = [float(each.volumes[number]) for each in counted]
        if not any(volumes):
            continue  # seen by some visits only
        pieces = [int(each.pieces[number]) for each in counted]
        names = [visit.session for visit in visits]
        growth = tuple(_grow(visits, volumes, stated))
        lesions.append(
            Lesion(number + 1, dict(zip(names, volumes, strict=True)), dict(zip(names, pieces, strict=True)), growth)
        )
    return lesions


def _grow(visits: Sequence[Visit], volumes: Sequence[float], stated: MinimalChange | None) -> list[Growth]:
    points = [Timepoint(visit.session, ml, day=visit.day) for visit, ml in zip(visits, volumes, strict=True)]
    return follow(points, stated)
