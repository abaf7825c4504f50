"""Take in uploads: checked first, then stored, then named by a row."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from voxelight.app.schemas import Page, ScanAnswer, ScanRequest
from voxelight.app.verbs.answers import answer_scan
from voxelight.models.errors import BadInput, Conflict
from voxelight.storage.artifacts import CHUNK_BYTES, BlobRef, Incoming
from voxelight.storage.formats.names import safe_name
from voxelight.storage.queries import find_dataset, find_row, read_page, select_scans
from voxelight.storage.schema import Dataset, ImagingSession, Scan, Subject
from voxelight.storage.stores import Stores, name_blob

if TYPE_CHECKING:
    from voxelight.storage.formats.intake import Intake

L = TypeVar("L", Subject, ImagingSession)


class Scans:
    """Uploads, in and out."""

    def __init__(self, stores: Stores, limit_bytes: int) -> None:
        self._stores = stores
        self._limit_bytes = limit_bytes

    @contextmanager
    def receive(self, request: ScanRequest) -> Iterator[Incoming]:
        """Give a file to write an upload to, once name and data set are known to be fine; nothing stays of it.

        Raises
        ------
        BadInput
            The name is no plain file name.
        NotFound
            There is no such data set.
        Conflict
            The session has a scan of that name.
        """
        name = safe_name(request.name)
        with self._stores.sessions() as session:
            dataset = find_dataset(session, request.dataset)
            self._refuse_second(session, dataset, request, name)
        with self._stores.blobs.incoming(self._limit_bytes) as incoming:
            yield incoming

    def keep(self, incoming: Incoming, request: ScanRequest) -> ScanAnswer:
        """Check what came in and store it; a refused file leaves neither row, blob nor file.

        Raises
        ------
        BadInput
            It can't be read, or its content is not what its name says.
        Conflict
            A scan of that name came in meanwhile; the blob of this one has no row, and the next sweep takes it.
        """
        # Imported late: SciPy and the readers cost a second, and most commands take nothing in.
        from voxelight.storage.formats.images import encode_png
        from voxelight.storage.formats.intake import inspect
        from voxelight.storage.formats.thumbnails import thumbnail

        ref = incoming.finish()
        intake = inspect(incoming.path, request.name)
        picture = thumbnail(incoming.path, intake)
        self._stores.blobs.put_file(incoming.path, ref.sha256)
        small = self._stores.blobs.put_bytes(encode_png(picture)) if picture is not None else None
        try:
            with self._stores.sessions.begin() as session:
                scan = self._write(session, request, intake, ref, small)
                return answer_scan(scan)
        except IntegrityError:
            with self._stores.sessions() as session:
                self._refuse_second(session, find_dataset(session, request.dataset), request, request.name)
            raise

    def ingest(self, file: IO[bytes], request: ScanRequest) -> ScanAnswer:
        """Take in an open file, in chunks."""
        with self.receive(request) as incoming:
            while chunk := file.read(CHUNK_BYTES):
                incoming.write(chunk)
            return self.keep(incoming, request)

    def ingest_path(self, path: Path, request: ScanRequest) -> ScanAnswer:
        """Take in a file of this machine.

        Raises
        ------
        BadInput
            There is no such file.
        """
        if not path.is_file():
            raise BadInput(f"no file {path}", "a file", "Check the path.")
        with path.open("rb") as file:
            return self.ingest(file, request)

    def list(
        self,
        dataset: str | None = None,
        subject: str | None = None,
        kind: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[ScanAnswer]:
        """Return scans, newest first."""
        with self._stores.sessions() as session:
            dataset_id = find_dataset(session, dataset).id if dataset else None
            query = select_scans(dataset_id, (kind,) if kind else (), subject)
            rows, following = read_page(session, query, (Scan.created_at, Scan.id), limit, cursor)
            return Page(items=[answer_scan(row) for row in rows], next_cursor=following)

    def show(self, scan_id: uuid.UUID) -> ScanAnswer:
        """Return one scan."""
        with self._stores.sessions() as session:
            return answer_scan(find_row(session, Scan, scan_id))

    def read_thumbnail(self, scan_id: uuid.UUID) -> bytes | None:
        """Return the small picture of a scan as PNG, where it has one."""
        sha256 = self.show(scan_id).thumbnail_sha256
        return self._stores.blobs.read(sha256) if sha256 else None

    def _write(
        self, session: Session, request: ScanRequest, intake: "Intake", ref: BlobRef, small: BlobRef | None
    ) -> Scan:
        dataset = find_dataset(session, request.dataset)
        subject = _find_or_add(session, Subject, dataset_id=dataset.id, label=request.subject)
        visit = _find_or_add(session, ImagingSession, subject_id=subject.id, label=request.session)
        name_blob(session, ref, intake.media_type)
        if small:
            name_blob(session, small, "image/png")
        scan = Scan(
            imaging_session=visit,
            name=request.name,
            kind=intake.kind,
            geometry=intake.geometry.model_dump(mode="json") if intake.geometry else {},
            facts=intake.facts,
            warnings=[warning.model_dump() for warning in intake.warnings],
            blob_sha256=ref.sha256,
            thumbnail_sha256=small.sha256 if small else None,
        )
        session.add(scan)
        session.flush()
        return scan

    @staticmethod
    def _refuse_second(session: Session, dataset: Dataset, request: ScanRequest, name: str) -> None:
        there = session.scalar(
            select_scans(dataset.id, subject=request.subject).where(
                Scan.name == name, ImagingSession.label == request.session
            )
        )
        if there is not None:
            raise Conflict(
                f"a scan named {name!r} in session {request.session} of subject {request.subject}",
                "one scan of a name in a session",
                "Rename the file, or give it another session.",
            )


def _find_or_add(session: Session, table: type[L], **columns: object) -> L:
    row = session.scalar(select(table).filter_by(**columns))
    if row is None:
        row = table(**columns)
        session.add(row)
        session.flush()
    return row
