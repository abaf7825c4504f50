"""Slices as one volume: in order, evenly spaced, on one grid; or the reason why they are none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.storage.formats.dicom.choose import Volumes, describe_volume, find_places, tell_apart
from voxelight.storage.formats.dicom.frames import Frame, list_frames
from voxelight.storage.formats.dicom.refusals import Uneven
from voxelight.storage.formats.dicom.series import SeriesFiles, as_number

_SAME_MM = 1e-2
_LISTED = 4
_ANGLE = 1e-3  # radians between the axes of two slices
_TILT = np.deg2rad(0.5)
_UNEVEN = 0.1  # of a step, at most 0.1 mm
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of one volume in the order of the patient.

    Parameters
    ----------
    series : SeriesFiles
    frames : from the lowest to the highest along the normal of the slices
    affine : array (4, 4), index of (column, row, slice) -> RAS+ mm
    """

    series: SeriesFiles
    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        rows, columns = self.frames[0].shape
        return columns, rows, len(self.frames)


def stack_slices(series: SeriesFiles) -> Stack:
    """Arrange the slices of a series that holds one volume.

    With r and c the spacing of rows and columns, X and Y the directions along a row and a column, S_1 and S_N the
    positions of the first and last of N slices, the affine in LPS is [X c, Y r, (S_N - S_1) / (N - 1), S_1]
    (PS3.3, C.7.6.2.1.1); RAS+ has its first two rows negated.

    Raises
    ------
    BadInput
        Slices are missing, there twice, tilted, of several sizes or orientations, or there are several volumes.
    """
    frames = list_frames(series)
    _refuse_mixed(series, frames)
    first = frames[0]
    normal = np.cross(first.across, first.down)
    heights = np.array([frame.position @ normal for frame in frames])
    order = np.argsort(heights, kind="stable")
    ordered, heights = [frames[place] for place in order], heights[order]
    chosen, heights = _choose_volume(series, ordered, heights)
    ordered = list(chosen)
    step = _find_step(series, ordered, heights, normal)
    affine = np.eye(4)
    affine[:3, 0] = first.across * first.spacing[1]
    affine[:3, 1] = first.down * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = ordered[0].position
    return Stack(series, tuple(ordered), _LPS_TO_RAS @ affine)


def _refuse_mixed(series: SeriesFiles, frames: Sequence[Frame]) -> None:
    first = frames[0]
    sizes = Counter((frame.shape, tuple(np.round(frame.spacing, 4))) for frame in frames)
    if len(sizes) > 1:
        raise BadInput(
            f"{series.title} with slices of {len(sizes)} sizes or pixel spacings",
            "one size for all slices",
            "Upload the volume without localisers and reformats, each as a series of its own.",
        )
    angles = [max(np.abs(frame.across - first.across).max(), np.abs(frame.down - first.down).max()) for frame in frames]
    if max(angles) > _ANGLE:
        others = sum(angle > _ANGLE for angle in angles)
        raise BadInput(
            f"{series.title} with {others} of {len(frames)} slices in another orientation than the first",
            "parallel slices",
            "It looks like a localiser or a set of reformats: upload the series of the volume itself.",
        )


def _choose_volume(
    series: SeriesFiles, frames: Sequence[Frame], heights: NDArray[np.float64]
) -> tuple[Sequence[Frame], NDArray[np.float64]]:
    """Return the slices of the one volume, or of the one that was chosen; refuse others, and what is there twice."""
    counts = np.bincount(find_places(heights))
    if counts.max() == 1:
        if series.volume is not None and series.volume > series.volumes:
            raise BadInput(f"volume {series.volume} of {series.title}", f"one from 1 to {series.volumes}",
                           "Choose another one, or leave the volume out.")  # fmt: skip
        return frames, heights
    if counts.min() == counts.max():
        volumes, keywords = tell_apart(frames, heights)
        if series.volume is not None and 1 <= series.volume <= len(volumes):
            return volumes[series.volume - 1], heights[:: len(volumes)]
        _refuse_several(series, counts, volumes, keywords)
    twice = int(np.count_nonzero(counts > 1))
    raise BadInput(
        f"{series.title} with more than one slice in {twice} of {len(counts)} places",
        "one slice in each place",
        "Remove what is there twice, or upload the volumes one by one.",
    )


def _refuse_several(
    series: SeriesFiles, counts: NDArray[np.intp], volumes: Volumes, keywords: tuple[str, ...]
) -> NoReturn:
    found = f"{series.title} with {counts[0]} volumes of {len(counts)} slices"
    if not volumes:
        raise BadInput(
            f"{found}, which differ in nothing that says which slice belongs to which",
            "one volume",
            "Upload the files of one volume.",
        )
    listed = [f"{number}: {describe_volume(volume, keywords)}" for number, volume in enumerate(volumes[:_LISTED], 1)]
    wrong = "" if series.volume is None else f", of which volume {series.volume} is none"
    raise BadInput(
        f"{found}, which differ in {', '.join(keywords)}{wrong}: "
        f"{'; '.join(listed)}{'; ...' if len(volumes) > _LISTED else ''}",
        "one volume, or the number of the one that is meant",
        "Choose it: --volume 1 in the shell or ?volume=1 over HTTP. Dropped on the page or given to voxelight ingest, "
        "each becomes a scan of its own.",
    )


def _find_step(
    series: SeriesFiles, frames: Sequence[Frame], heights: NDArray[np.float64], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    if len(frames) == 1:
        header = series.headers[frames[0].file]
        thickness = as_number(header.get("SpacingBetweenSlices"), 0) or as_number(header.get("SliceThickness"), 0)
        return np.asarray(normal * (thickness if thickness > 0 else 1.0))
    _refuse_gaps(series, heights)
    positions = np.array([frame.position for frame in frames])
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(frames) - 1)
    tilt = float(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    if tilt > _TILT:
        raise Uneven(
            f"{series.title} whose slices are shifted against each other by {np.rad2deg(tilt):.1f} degrees "
            "(a tilted gantry)",
            "slices that lie straight above each other",
            "Resample the volume without tilt: dcm2niix does so and writes a file whose name ends in _Tilt.",
        )
    away = np.abs(positions - (positions[0] + np.outer(np.arange(len(frames)), step))).max()
    if away > max(_SAME_MM, min(_UNEVEN, _UNEVEN * float(np.linalg.norm(step)))):
        raise Uneven(
            f"{series.title} with slices up to {away:.2f} mm away from an even grid",
            "slices in one line at even distances",
            "Resample the volume to even distances first: dcm2niix does so and writes a file whose name ends in _Eq.",
        )
    return step


def _refuse_gaps(series: SeriesFiles, heights: NDArray[np.float64]) -> None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    steps = np.rint(gaps / usual)
    if (steps > 1).any() and np.abs(gaps - steps * usual).max() <= min(_UNEVEN, _UNEVEN * usual):
        missing = int((steps - 1).sum())
        place = int(np.argmax(steps > 1)) + 1
        raise BadInput(
            f"{series.title} in which {missing} of {len(heights) + missing} slices are missing, "
            f"the first after slice {place}",
            "a slice every " + f"{usual:.4g} mm",
            "Export or copy the whole series again.",
        )
