"""Requests and answers of uploads that come in pieces, and of drops of many files."""

import uuid
from datetime import datetime
from typing import Literal

from pydantic import Field

from voxelight.app.schemas import PREFER, VOLUME, Label, Problem, ScanAnswer, Sent, Wire

UploadStatus = Literal["open", "waiting", "checking", "done", "refused"]
MAX_NAMES = 10_000


class Place(Sent):
    """Where files belong."""

    dataset: Label
    subject: Label = "01"
    session: Label = "01"


class ReadPlace(Place):
    """Where files belong, and how they are read where that can be done in several ways."""

    prefer: Literal["sform", "qform"] | None = Field(None, description=PREFER)
    volume: int | None = Field(None, ge=1, le=1_000_000, description=VOLUME)


class UploadRequest(ReadPlace):
    """A file that will come in pieces."""

    name: str = Field(min_length=1, max_length=255)
    size: int = Field(ge=0, lt=2**63, description="bytes")
    batch: uuid.UUID | None = Field(None, description="what was dropped together, where that matters")


class RefusedPart(Wire):
    """A file, or a series within several, that can't be used."""

    name: str
    problem: Problem


class UploadAnswer(Wire):
    """A file on its way in.

    `open`: bytes are missing. `waiting`: whole, and part of a batch that is not closed yet. `checking`: the intake
    check is due or under way. `done`: `scans` has what it became, and `problems` what could not be used of it.
    `refused`: nothing of it is kept.
    """

    id: uuid.UUID
    dataset: str
    subject: str
    session: str
    name: str
    size: int
    offset: int = Field(description="bytes that are here")
    batch: uuid.UUID | None
    prefer: str | None = None
    volume: int | None = None
    status: UploadStatus
    scans: list[ScanAnswer]
    problems: list[RefusedPart]
    expires_at: datetime
    created_at: datetime


class BatchAnswer(Wire):
    """What was dropped together: how far its files are, and what they became."""

    id: uuid.UUID
    files: int
    open: int
    waiting: int
    done: int
    refused: int
    scans: list[ScanAnswer]
    problems: list[RefusedPart]


class DropAnswer(Wire):
    """What files became that were taken in together."""

    scans: list[ScanAnswer]
    problems: list[RefusedPart]


class AssignRequest(Sent):
    """Names of files, and the pattern that says where they belong."""

    names: list[str] = Field(max_length=MAX_NAMES)
    pattern: str = Field(max_length=300, description="such as sub-{subject}_ses-{session}_*.nii.gz")
    rename: str = Field("", max_length=300, description="new name made of the parts; empty: names stay")
    subject: Label = Field("01", description="where the pattern has no {subject}")
    session: Label = Field("01", description="where the pattern has no {session}")


class AssignedName(Wire):
    """Where a file belongs by its name; `problem` says why it can't be told."""

    name: str
    subject: str
    session: str
    as_name: str
    problem: str


class AssignAnswer(Wire):
    """Names in the order that they were given."""

    rows: list[AssignedName]
    assigned: int
    subjects: int
