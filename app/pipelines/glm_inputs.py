"""Which stored files make up the runs of an estimation, and the same files read."""

import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import reduce
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from voxelight.app.pipelines.choice import choose_scans
from voxelight.app.schemas import JobRequest
from voxelight.models.errors import BadInput
from voxelight.neuro.glm.design import Run as BoldRun
from voxelight.neuro.glm.design import find_non_steady
from voxelight.storage.formats.fmri.bold import name_run, read_sidecar
from voxelight.storage.formats.fmri.bold_run import map_bold, read_confounds, read_events, read_timing
from voxelight.storage.formats.fmri.space import Space, check_grid, read_mask_space
from voxelight.storage.formats.fmri.volumes import read_large_header
from voxelight.storage.schema import Dataset, Scan
from voxelight.storage.stores import Stores

TAKES = ("series", "volume", "events", "confounds", "sidecar")
_MASK = re.compile(r"_mask\.nii(\.gz)?$", re.IGNORECASE)
_HOW = "Name files as BIDS does: sub-01_task-x_run-1_bold.nii.gz with ..._events.tsv, ..._bold.json and ..._mask.nii.gz"
_LISTED = 5

Stored = tuple[str, str]
"""Name and hash of a file."""


class RunFiles(BaseModel):
    """One run as a job keeps it.

    Parameters
    ----------
    subject, session, name : labels, and the name of the run in its session
    scan, subject_id : ids of the 4-D image and of whom it shows
    bold, events, confounds, sidecar : name and hash
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    session: str
    name: str
    scan: uuid.UUID
    subject_id: uuid.UUID
    bold: Stored
    events: Stored
    confounds: Stored | None
    sidecar: Stored | None

    @property
    def key(self) -> str:
        """Name of the item."""
        return f"{self.subject}/{self.session}/{self.name}"

    @property
    def hashes(self) -> dict[str, str]:
        """File name -> sha256 of all of them."""
        return {part[0]: part[1] for part in (self.bold, self.events, self.confounds, self.sidecar) if part is not None}


def find_runs(
    session: Session, dataset: Dataset, request: JobRequest, mask: uuid.UUID | None
) -> tuple[list[RunFiles], dict[str, list[Stored]], tuple[str, ...]]:
    """Put together the files of each run, by the entities of their names.

    Parameters
    ----------
    session : open session
    dataset, request : where they lie, and which to choose from
    mask : id of the only mask; left out, every ``_mask.nii.gz`` of a subject

    Returns
    -------
    runs, in order; subject -> masks, of which the common voxels are taken; in words what was left out

    Raises
    ------
    BadInput
        There is no run with events, a subject has no mask, or two files claim one place.
    """
    choice = choose_scans(session, dataset, request, TAKES)
    places = {kind: _place([scan for scan in choice.scans if scan.kind == kind]) for kind in TAKES if kind != "volume"}
    notes, runs = list(choice.notes), []
    for place, scan in sorted(places["series"].items()):
        if place not in places["events"]:
            notes.append(f"Left out, without a table of events: {scan.name}.")
            continue
        runs.append(_gather(scan, place, places))
    if not runs:
        raise BadInput(f"no run of BOLD with a table of events in data set {dataset.name}", "one or more", _HOW)
    masks = {subject: _find_masks(choice.scans, subject, mask) for subject in sorted({run.subject for run in runs})}
    return runs, masks, tuple(notes)


_Key = tuple[str, str, str]


def _place(scans: Sequence[Scan]) -> dict[_Key, Scan]:
    found: dict[_Key, Scan] = {}
    for scan in scans:
        visit = scan.imaging_session
        place = (visit.subject.label, visit.label, name_run(scan.name))
        if place in found:
            raise BadInput(f"{found[place].name} and {scan.name} of one run", "one of them", _HOW)
        found[place] = scan
    return found


def _gather(scan: Scan, place: _Key, places: dict[str, dict[_Key, Scan]]) -> RunFiles:
    others = {kind: places[kind].get(place) for kind in ("events", "confounds", "sidecar")}
    stored = {kind: (other.name, other.blob_sha256) if other else None for kind, other in others.items()}
    return RunFiles.model_validate(
        {
            "subject": place[0],
            "session": place[1],
            "name": place[2],
            "scan": scan.id,
            "subject_id": scan.imaging_session.subject_id,
            "bold": (scan.name, scan.blob_sha256),
            **stored,
        }
    )


def _find_masks(scans: Sequence[Scan], subject: str, chosen: uuid.UUID | None) -> list[Stored]:
    volumes = [scan for scan in scans if scan.kind == "volume" and scan.imaging_session.subject.label == subject]
    masks = [scan for scan in volumes if (scan.id == chosen if chosen else _MASK.search(scan.name))]
    if not masks:
        named = ", ".join(scan.name for scan in volumes[:_LISTED]) or "no 3-D image"
        raise BadInput(f"subject {subject} without a mask, but {named}", "a brain mask, ..._mask.nii.gz", _HOW)
    return [(scan.name, scan.blob_sha256) for scan in masks]


def read_space(stores: Stores, masks: Sequence[Stored]) -> Space:
    """Return the voxels that all masks of a subject share.

    Raises
    ------
    BadInput
        They lie on several grids, or share no voxel.
    """
    with ExitStack() as stack:
        paths = [stack.enter_context(stores.blobs.local_file(sha256, name)) for name, sha256 in masks]
        spaces = [read_mask_space(path, "", "brain") for path in paths]
        for path, space in zip(paths[1:], spaces[1:], strict=True):
            assert space.grid is not None
            check_grid(path, space.grid, spaces[0])
    shared = reduce(np.intersect1d, [space.places for space in spaces[1:]], spaces[0].places)
    if not len(shared):
        raise BadInput(f"{len(masks)} masks without a common voxel", "masks of one head", "Check the masks.")
    return spaces[0].keep(np.flatnonzero(np.isin(spaces[0].places, shared)))


def read_run(
    stores: Stores,
    files: RunFiles,
    space: Space,
    confounds: Sequence[str],
    column: str | None,
    find_table: Callable[[Path], np.ndarray],
) -> tuple[BoldRun, tuple[str, ...]]:
    """Read one run, its voxels as `find_table` gives them for the image.

    Raises
    ------
    BadInput, NotFound
        Its parts don't fit each other or can't be read.
    """
    with ExitStack() as stack:

        def fetch(stored: Stored) -> Path:
            return stack.enter_context(stores.blobs.local_file(stored[1], stored[0]))

        bold = fetch(files.bold)
        check_grid(bold, read_large_header(bold).grid, space)
        sidecar = read_sidecar(fetch(files.sidecar), files.sidecar[0]) if files.sidecar else {}
        timing, noted = read_timing(bold, sidecar, files.bold[0])
        events, labels, skipped = read_events(fetch(files.events), files.events[0], column)
        events.check_end(timing, files.name)
        table = read_confounds(fetch(files.confounds), confounds, files.confounds[0]) if files.confounds else None
        values = find_table(bold)
    non_steady = table.non_steady if table else 0
    run = BoldRun(files.name, values, timing, events, table.values if table else None, non_steady, labels)
    return run, (*noted, *skipped)


def map_run(
    stores: Stores, files: RunFiles, space: Space, confounds: Sequence[str], column: str | None, folder: Path
) -> tuple[BoldRun, tuple[str, ...]]:
    """Read one run with its voxels mapped from a folder; volumes that are not steady are found where none are marked.

    Raises
    ------
    BadInput, NotFound
        As of `read_run`.
    """
    target = folder / f"{files.bold[1]}.npy"
    run, notes = read_run(stores, files, space, confounds, column, lambda bold: map_bold(bold, space, target))
    if run.non_steady:
        return run, notes
    found = find_non_steady(np.asarray(run.bold[:, :: max(1, run.bold.shape[1] // 5000)]).mean(1))
    return BoldRun(run.name, run.bold, run.timing, run.events, run.confounds, found, run.labels), notes
