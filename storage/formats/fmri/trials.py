"""What the labels of trials are called, the same in every layout."""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.str_]


def name_session(number: int) -> str:
    """Return e.g. ``ses-01``."""
    return f"ses-{number:02d}"


def name_runs(sessions: Labels, runs: NDArray[np.intp]) -> Labels:
    """Name runs together with their session, e.g. ``ses-01-run-03``, so that a run is one unit of a split."""
    pairs = zip(sessions.tolist(), runs.tolist(), strict=True)
    return np.array([f"{session}-run-{run:02d}" for session, run in pairs])


def name_pictures(numbers: NDArray[np.intp]) -> Labels:
    """Name pictures of the 73,000 of NSD, counted from 0, e.g. ``nsd-00042``: the same in every layout of NSD."""
    return np.array([f"nsd-{number:05d}" for number in numbers.tolist()])


def find_numbers(ids: Labels | list[str]) -> NDArray[np.intp]:
    """Return the numbers of pictures that `name_pictures` named."""
    return np.array([int(name.removeprefix("nsd-")) for name in list(ids)], dtype=np.intp)


def count_repeats(stimulus_ids: Labels) -> Labels:
    """Say of each trial the how manieth showing of its stimulus it is, from 1."""
    seen: dict[str, int] = {}
    repeats = []
    for name in stimulus_ids.tolist():
        seen[name] = seen.get(name, 0) + 1
        repeats.append(str(seen[name]))
    return np.array(repeats)
