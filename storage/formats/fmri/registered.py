"""A folder of betas that stays where it is, and what is kept of it: where it lies, how it is read, what it held."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.models.values import Betas, Stimuli
from voxelight.storage.formats.fmri.laion import SPLIT
from voxelight.storage.formats.fmri.layouts import open_recording
from voxelight.storage.formats.fmri.options import ReadingOptions
from voxelight.storage.formats.fmri.recording import Recording

SUFFIX = ".recording.json"
MEDIA_TYPE = "application/json"


class Registered(BaseModel):
    """One subject of a recording.

    Parameters
    ----------
    path : absolute, of the folder or file
    layout : a key of `layouts.LAYOUTS`
    subject, roi : as in the index
    options : how it is read
    simulated : whether a model made it
    fingerprint : of the index and the sizes of the files, so that a change shows
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    layout: str
    subject: str
    roi: str
    options: ReadingOptions
    simulated: bool
    fingerprint: str


def register(recording: Recording, subject: str, roi: str | None) -> Registered:
    """Return what is kept of one subject."""
    one = recording.index.find(subject)
    return Registered(
        path=recording.folder.resolve(),
        layout=recording.layout,
        subject=one.subject,
        roi=roi or one.rois[0],
        options=recording.options,
        simulated=recording.index.simulated,
        fingerprint=find_fingerprint(recording, one.subject),
    )


def find_fingerprint(recording: Recording, subject: str) -> str:
    """Hash what the index says of a subject, and the names and sizes of all files: sha256."""
    one = recording.index.find(subject)
    digest = hashlib.sha256("\n".join(one.stimulus_ids.tolist()).encode())
    for name in sorted(label for label in one.labels if not label.startswith(SPLIT)):  # files of their own, below
        digest.update("\n".join([name, *one.labels[name].tolist()]).encode())
    files = [recording.folder] if recording.folder.is_file() else sorted(recording.folder.rglob("*"))
    for path in files:
        if path.is_file():
            digest.update(f"\n{path.relative_to(recording.folder.parent)} {path.stat().st_size}".encode())
    return digest.hexdigest()


def read_registered(reference: Path, largest_side: int) -> tuple[Betas, Stimuli | None]:
    """Read what was registered, provided that it is what it was.

    Parameters
    ----------
    reference : file that holds a `Registered`
    largest_side : pictures with a longer side, and those of several sizes, become squares of so many pixels

    Returns
    -------
    Betas
    Stimuli of every trial, or None where the layout has no pictures

    Raises
    ------
    NotFound
        The folder is not there any more.
    Conflict
        Its files are others than at registration.
    BadInput
        A file is damaged.
    """
    told, recording = _open(reference)
    betas = recording.read(told.subject, told.roi)
    return betas, _read_pictures(recording, list(dict.fromkeys(betas.stimulus_ids.tolist())), largest_side)


def read_region(reference: Path, roi: str | None) -> tuple[Betas, NDArray[np.intp]]:
    """Read another region of what was registered.

    Parameters
    ----------
    reference : file that holds a `Registered`
    roi : a region of the index; None: the registered one

    Returns
    -------
    Betas
    places : array (voxel,), where each voxel stands in one stored trial, the same in every region

    Raises
    ------
    NotFound, Conflict, BadInput
        As `read_registered`, or there is no such region.
    """
    told, recording = _open(reference)
    region = roi or told.roi
    return recording.read(told.subject, region), recording.find_space(told.subject, region).places


def read_reference(reference: Path) -> Registered:
    """Read what was registered, not what it refers to.

    Raises
    ------
    BadInput
        The file is no reference.
    """
    try:
        return Registered.model_validate_json(reference.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise BadInput(f"{reference.name}, which is no reference ({error})", "one of ours", "Register again.") from None


def _open(reference: Path) -> tuple[Registered, Recording]:
    told = read_reference(reference)
    if not told.path.exists():
        raise NotFound(
            f"nothing at {told.path}", "the folder that was registered", "Bring it back, or register where it is now."
        )
    recording = open_recording(told.path, told.layout, told.options)
    if find_fingerprint(recording, told.subject) != told.fingerprint:
        raise Conflict(
            f"other files in {told.path} than when it was registered",
            "the same trials, names and sizes",
            "Register it again, so that results say what they were made of.",
        )
    return told, recording


def _read_pictures(recording: Recording, ids: list[str], largest_side: int) -> Stimuli | None:
    try:
        first = recording.read_pictures(ids[:1]).images
    except NotFound:
        return None
    if max(first.shape[1:3]) <= largest_side:
        try:
            return recording.read_pictures(ids)
        except BadInput:  # of several sizes
            pass
    return recording.read_pictures(ids, side=min(largest_side, int(np.min(first.shape[1:3]))))
