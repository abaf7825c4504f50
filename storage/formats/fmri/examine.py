"""What is said of a folder of betas before anything of it is registered."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.neuro.alignment import check_alignment
from voxelight.storage.formats.findings import of_alignment, of_betas, of_repeats
from voxelight.storage.formats.fmri.layouts import LAYOUTS, open_recording
from voxelight.storage.formats.fmri.options import ReadingOptions
from voxelight.storage.formats.fmri.recording import Recording
from voxelight.storage.formats.fmri.registered import register
from voxelight.storage.formats.found import Finding

_CHECKED_TRIALS = 1500


def look_at(path: Path, layout: str | None, options: ReadingOptions) -> dict[str, Any]:
    """Say what a folder holds, as plain data; no beta is read.

    Raises
    ------
    NotFound, BadInput
        Nothing of a known layout is there, or files are missing, damaged or contradict each other.
    """
    recording = open_recording(path, layout, options)
    row = LAYOUTS[recording.layout]
    return {
        "layout": recording.layout,
        "title": row.title,
        "terms": row.terms,
        "simulated": recording.index.simulated,
        "subjects": recording.index.summarise(),
        "notes": list(recording.index.notes),
    }


def examine(
    path: Path, layout: str | None, options: ReadingOptions, subjects: tuple[str, ...] | None, roi: str | None
) -> dict[str, Any]:
    """Look at subjects of a folder; of each a sample of trials is read.

    Returns
    -------
    dict
        Plain data: layout, simulated, notes, and for each subject its reference, facts and findings.

    Raises
    ------
    NotFound, BadInput
        As `look_at`; or there is no such subject or region.
    """
    recording = open_recording(path, layout, options)
    chosen = subjects or tuple(each.subject for each in recording.index.subjects)
    kept = [register(recording, subject, roi) for subject in chosen]
    found = []
    for each in kept:
        facts, findings = _describe(recording, each.subject, each.roi)
        said = {"reference": each.model_dump(mode="json"), "facts": facts}
        found.append(said | {"findings": [finding.model_dump() for finding in findings]})
    told = {"layout": recording.layout, "simulated": recording.index.simulated}
    return told | {"notes": list(recording.index.notes), "subjects": found}


def _describe(recording: Recording, subject: str, roi: str) -> tuple[dict[str, int | float | str], list[Finding]]:
    """Return facts of a subject, and what a person should know of it."""
    row = next(each for each in recording.index.summarise() if each["subject"] == subject)
    sample = recording.read(subject, roi, _choose_trials(recording, subject))
    facts: dict[str, int | float | str] = {
        "layout": recording.layout,
        "path": str(recording.folder),
        "roi": roi,
        "voxels": sample.values.shape[1],
        **{name: row[name] for name in ("sessions", "runs", "trials", "stimuli")},
        "minimum": float(sample.values.min()),
        "maximum": float(sample.values.max()),
    }
    found = check_alignment(sample)
    if found.reliability is not None:
        facts |= {"repeat_reliability": found.reliability, "repeat_p": found.p}
    repeats = of_repeats(recording.index.find(subject).stimulus_ids)
    return facts, [*of_alignment(sample, found), *repeats, *of_betas(sample)]


def _choose_trials(recording: Recording, subject: str) -> NDArray[np.intp]:
    """Return all trials, or of many those of whole sessions from the first on, so that repeats are among them."""
    one = recording.index.find(subject)
    trials = len(one.stimulus_ids)
    if trials <= _CHECKED_TRIALS or "session" not in one.labels:
        return np.arange(trials)
    names, counts = np.unique(one.labels["session"], return_counts=True)
    enough = int(np.searchsorted(np.cumsum(counts), _CHECKED_TRIALS)) + 1
    return np.flatnonzero(np.isin(one.labels["session"], names[:enough]))
