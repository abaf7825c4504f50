"""Several volumes in one series: told apart by what their headers say, and by nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from voxelight.storage.formats.dicom.frames import Frame, list_frames
from voxelight.storage.formats.dicom.series import SeriesFiles, as_number

Volumes = list[tuple[Frame, ...]]
_SAME_MM = 1e-2


def find_differences(frames: Sequence[Frame]) -> list[str]:
    """Return the keywords by which frames of one series fall into volumes."""
    keywords = dict.fromkeys(keyword for frame in frames for keyword in frame.tells)
    return [keyword for keyword in keywords if len({frame.tells.get(keyword) for frame in frames}) > 1]


def find_places(heights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the place of each slice, in order of height: array (frame,), from 0, the same for the same height."""
    return np.concatenate([[0], np.cumsum(np.diff(heights) > _SAME_MM)]).astype(np.intp)


def tell_apart(frames: Sequence[Frame], heights: NDArray[np.float64]) -> tuple[Volumes, tuple[str, ...]]:
    """Sort frames into volumes by the fewest keywords that give each volume one slice in every place.

    Parameters
    ----------
    frames : in order of height, each place as often as any other
    heights : array (frame,), mm along the normal

    Returns
    -------
    the frames of each volume, in the order of what tells them apart; and the keywords; both empty where none do
    """
    places = find_places(heights)
    count = int(places[-1]) + 1
    keywords = find_differences(frames)
    for size in (1, 2, 3):
        for chosen in combinations(keywords, size):
            volumes: dict[tuple[str, ...], list[int]] = {}
            for number, frame in enumerate(frames):
                volumes.setdefault(tuple(frame.tells.get(keyword, "") for keyword in chosen), []).append(number)
            whole = all(sorted(places[numbers].tolist()) == list(range(count)) for numbers in volumes.values())
            if len(volumes) > 1 and whole:
                order = sorted(volumes, key=lambda values: [(as_number(value, np.inf), value) for value in values])
                return [tuple(frames[number] for number in volumes[values]) for values in order], chosen
    return [], ()


def describe_volume(frames: Sequence[Frame], keywords: Sequence[str]) -> str:
    """Say what a volume is: ``EchoTime 30.0``."""
    return ", ".join(f"{keyword} {frames[0].tells.get(keyword, 'absent')}" for keyword in keywords)


def split_series(series: SeriesFiles) -> list[SeriesFiles]:
    """Return a series of several volumes as one part a volume, any other as it is.

    Raises
    ------
    BadInput
        A frame does not say where it lies, or is none that holds one grey value a voxel.
    """
    frames = list_frames(series)
    normal = np.cross(frames[0].across, frames[0].down)
    heights = np.array([frame.position @ normal for frame in frames])
    order = np.argsort(heights, kind="stable")
    ordered = [frames[place] for place in order]
    counts = np.bincount(find_places(heights[order]))
    if series.volume is not None or counts.max() == 1 or counts.min() != counts.max():
        return [series]
    volumes, keywords = tell_apart(ordered, heights[order])
    parts = [replace(series, volume=number, volumes=len(volumes), differs=describe_volume(volume, keywords))
             for number, volume in enumerate(volumes, start=1)]  # fmt: skip
    return [_pick_files(part, volume) for part, volume in zip(parts, volumes, strict=True)] or [series]


def _pick_files(part: SeriesFiles, volume: Sequence[Frame]) -> SeriesFiles:
    """Leave out the files of other volumes, where each file belongs to one."""
    if any(frame.number for frame in volume):
        return part  # frames of one file can't be parted; the archive says which volume is meant
    numbers = sorted({frame.file for frame in volume})
    files, headers = [part.files[number] for number in numbers], [part.headers[number] for number in numbers]
    if any(int(as_number(header.get("NumberOfFrames"), 1)) > 1 for header in headers):
        return part
    return replace(part, files=tuple(files), headers=tuple(headers))
