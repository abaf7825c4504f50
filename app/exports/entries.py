"""What an export works on: one result with its scan and its corrections, and where the bytes lie."""

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from voxelight.app.schemas import ArtifactAnswer, ResultAnswer
from voxelight.app.verbs.answers import answer_artifact
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.checks import Checks
from voxelight.storage.schema import Correction, Dataset, Job, Model, Run, Scan

if TYPE_CHECKING:
    from voxelight.models.values import LabelMap

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Corrected:
    """A label map that a person drew."""

    author: str
    note: str
    made_at: datetime
    artifact: ArtifactAnswer


@dataclass(frozen=True)
class Terms:
    """Under what terms a result may be passed on, and whom to name."""

    dataset_licence: str
    dataset_source: str
    consent: str
    model_licence: str
    model_version: str


@dataclass(frozen=True, eq=False)
class Entry:
    """One result with what its answer does not say."""

    result: ResultAnswer
    scan_sha256: str
    scan_kind: str
    corrections: tuple[Corrected, ...]
    terms: Terms

    def find(self, role: str) -> list[ArtifactAnswer]:
        """Return its files of a role, by name."""
        return sorted((file for file in self.result.artifacts if file.role == role), key=lambda file: file.name)


@dataclass(frozen=True, eq=False)
class Member:
    """One file of an archive: its path with slashes, and its content, made when it is written."""

    path: str
    content: Iterable[bytes]


class Problems(list[dict[str, str]]):
    """What could not be exported, and why; an export goes on without it."""

    def note(self, what: str, reason: object) -> None:
        """Add one."""
        self.append({"what": what, "reason": str(reason)})


class Contents:
    """The bytes behind the answers."""

    def __init__(self, blobs: BlobStore, checks: Checks) -> None:
        self._blobs = blobs
        self.checks = checks

    def read(self, file: ArtifactAnswer) -> bytes:
        """Return the whole content."""
        return self._blobs.read(file.sha256)

    def stream(self, file: ArtifactAnswer) -> Iterator[bytes]:
        """Yield the content in pieces."""
        return self._blobs.read_range(file.sha256, 0, file.size)

    def open_file(self, sha256: str, name: str) -> AbstractContextManager[Path]:
        """Give content as a file under its name."""
        return self._blobs.local_file(sha256, name)


def gather(session: Session, results: Sequence[ResultAnswer]) -> list[Entry]:
    """Put beside results what an export needs, with one question a table for all of them."""
    ids = [result.id for result in results]
    scans = {
        row.id: row
        for row in session.execute(
            select(
                Run.id,
                Scan.blob_sha256,
                Scan.kind,
                Dataset.licence.label("dataset_licence"),
                Dataset.source.label("dataset_source"),
                Dataset.consent,
                Model.licence.label("model_licence"),
                Model.version.label("model_version"),
            )
            .join(Run.scan)
            .join(Run.job)
            .join(Job.dataset)
            .join(Job.model)
            .where(Run.id.in_(ids))
        )
    }
    drawn: dict[uuid.UUID, list[Corrected]] = {}
    query = select(Correction).where(Correction.run_id.in_(ids)).options(joinedload(Correction.artifact))
    for row in session.scalars(query.order_by(Correction.created_at, Correction.id)):
        file = answer_artifact(row.artifact)
        drawn.setdefault(row.run_id, []).append(Corrected(row.author, row.note, row.created_at, file))
    return [
        Entry(
            result,
            scans[result.id].blob_sha256,
            scans[result.id].kind,
            tuple(drawn.get(result.id, [])),
            Terms(**{name: getattr(scans[result.id], name) for name in Terms.__dataclass_fields__}),
        )
        for result in results
        if result.id in scans  # what was deleted meanwhile is left out
    ]


def list_maps(entry: Entry) -> list[tuple[ArtifactAnswer, str, str]]:
    """Return the label maps of a result, each with a name for its file and, of a correction, with its author."""
    drawn = [(file, "segmentation", "") for file in entry.find("label_map")]
    corrected = enumerate(entry.corrections, 1)
    return drawn + [(each.artifact, f"correction-{number:02d}", each.author) for number, each in corrected]


def read_map(contents: Contents, entry: Entry, file: ArtifactAnswer) -> "LabelMap":
    """Read a stored label map with the names that its result gives the numbers.

    Raises
    ------
    BadInput
        It holds a number without a name.
    """
    from voxelight.storage.formats.nifti import read_label_map

    names = {int(number): name for number, name in entry.result.labels.items()}
    with contents.open_file(file.sha256, file.name) as labels:
        return read_label_map(labels, names)


def path_part(name: str) -> str:
    """Return a name as one part of a path, of plain letters."""
    return _NOT_PLAIN.sub("-", name).strip(".-")[:100] or "unnamed"


def short(identity: uuid.UUID) -> str:
    """Return the first digits of an id, enough to tell it from others."""
    return str(identity)[:8]


def folder_of(result: ResultAnswer) -> str:
    """Return where the files of a result lie in an archive: by subject, session, recipe with job, and item."""
    item = path_part(result.item.replace("/", "_"))
    parts = (result.subject, result.session, f"{result.recipe}-{short(result.job)}", f"{item}-{short(result.id)}")
    return "/".join(map(path_part, (result.dataset, *parts)))
