"""Take in uploads: checked first, then stored, then named by a row."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from voxelight.app.schemas import Page, ScanAnswer, ScanRequest
from voxelight.app.verbs.answers import answer_scan
from voxelight.models.errors import BadInput, Conflict, VoxelightError
from voxelight.storage.artifacts import CHUNK_BYTES, BlobRef, Incoming
from voxelight.storage.formats.names import SEALED_SUFFIXES, find_stored_name, image_stem, safe_name
from voxelight.storage.identity import IdentityKey
from voxelight.storage.identity_links import has_links, write_link
from voxelight.storage.queries import find_dataset, find_row, read_page, select_scans
from voxelight.storage.schema import Dataset, ImagingSession, Scan, Subject
from voxelight.storage.stores import Stores, name_blob

if TYPE_CHECKING:
    from voxelight.storage.formats.deidentify import Accepted, Owner
    from voxelight.storage.formats.dicom.series import SeriesFiles
    from voxelight.storage.formats.nifti_forms import Form

L = TypeVar("L", Subject, ImagingSession)
_TRIES = 4  # subject, session, key of the blob: each may be brought by another scan at the same moment


class Scans:
    """Uploads, in and out."""

    def __init__(self, stores: Stores, limit_bytes: int, key: IdentityKey, prefer: "Form | None" = None) -> None:
        self._stores = stores
        self._key = key
        self._limit_bytes = limit_bytes
        self._prefer = prefer

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
            self._refuse_second(session, dataset, request, find_stored_name(name))
        with self._stores.blobs.incoming(self._limit_bytes) as incoming:
            yield incoming

    def keep(self, incoming: Incoming, request: ScanRequest) -> ScanAnswer:
        """Check what came in, clean its headers and store it; a refused file leaves neither row, blob nor file.

        Raises
        ------
        BadInput
            It can't be read, or its content is not what its name says.
        Conflict
            A scan of that name came in meanwhile; the blob of this one has no row, and the next sweep takes it.
        """
        # Imported late: SciPy and the readers cost a second, and most commands take nothing in.
        from voxelight.storage.formats.deidentify import accept_file
        from voxelight.storage.formats.reading import Reading

        ref = incoming.finish()
        with self._beside(incoming) as target:
            reading = Reading(request.prefer or self._prefer, request.volume)
            accepted = accept_file(incoming.path, request.name, target, self._find_owner(request), reading)
            return self._store(accepted, request, ref)

    def ingest_series(
        self, paths: Sequence[Path], request: ScanRequest
    ) -> tuple[list[ScanAnswer], list[tuple[str, VoxelightError]]]:
        """Take in every DICOM series below some paths as a scan of its own; one that is refused stops no other.

        A series of several volumes becomes a scan a volume. What our reader refuses and dcm2niix knows, mosaics and
        tilted or uneven slices, becomes NIfTI, and says so.

        Parameters
        ----------
        paths : files, folders and ZIP archives
        request : whose they are; the name of each scan is made from its series

        Returns
        -------
        list of ScanAnswer, and of what each refused series is called with the reason

        Raises
        ------
        BadInput
            A path leads nowhere, an archive is not to be trusted, or nothing is a DICOM image.
        """
        from voxelight.storage.formats.dicom.bundle import name_all
        from voxelight.storage.formats.dicom.series import Convertible

        scans: list[ScanAnswer] = []
        refused: list[tuple[str, VoxelightError]] = []
        for name, series in name_all(paths):
            if request.volume is not None and series.volume not in (None, request.volume):
                continue
            try:
                scans.append(self._ingest_one(series, name, request))
            except Convertible as reason:
                with self._noting(series, refused):
                    scans.extend(self._ingest_converted(series, name, request, reason))
            except VoxelightError as error:
                refused.append((series.title, error))
        return scans, refused

    def _ingest_one(self, series: "SeriesFiles", name: str, request: ScanRequest) -> ScanAnswer:
        from voxelight.storage.formats.deidentify import accept_series
        from voxelight.storage.formats.dicom.bundle import check_series

        check_series(series)
        owner = self._find_owner(request.model_copy(update={"name": name}))
        named = self._name_series(request, name, owner.name_uid(series.uid), series.volume)
        with self.receive(named) as incoming, self._beside(incoming) as target:
            return self._store(accept_series(series, named.name, target, owner), named)

    def _ingest_converted(
        self, series: "SeriesFiles", name: str, request: ScanRequest, reason: BadInput
    ) -> Iterator[ScanAnswer]:
        """Yield scans of what dcm2niix makes of a series; what may have writing in its picture is not converted."""
        from voxelight.storage.formats.deidentify import accept_converted
        from voxelight.storage.formats.dicom.clean import find_writing
        from voxelight.storage.formats.dicom.convert import converted

        if any(find_writing(header) for header in series.headers):
            raise reason
        stem = image_stem(name)
        with self.receive(request.model_copy(update={"name": f"{stem}.nii.gz"})) as incoming:
            work = incoming.path.parent
            with converted(series, work, reason) as files:
                for number, found in enumerate(files, start=1):
                    named = f"{stem}{f'-{number}' if len(files) > 1 else ''}.nii.gz"
                    each = request.model_copy(update={"name": named})
                    with self.receive(each) as place, self._beside(place) as target:
                        yield self._store(accept_converted(found, named, target, self._find_owner(each)), each)

    @contextmanager
    def _noting(self, series: "SeriesFiles", refused: "list[tuple[str, VoxelightError]]") -> Iterator[None]:
        try:
            yield
        except VoxelightError as error:
            refused.append((series.title, error))

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

    @contextmanager
    def _beside(self, incoming: Incoming) -> Iterator[Path]:
        """Give a place for the cleaned file, which is gone on leaving."""
        target = incoming.path.with_suffix(".cleaned")
        try:
            yield target
        finally:
            target.unlink(missing_ok=True)

    def _name_series(self, request: ScanRequest, name: str, uid: str, volume: int | None) -> ScanRequest:
        """Name a series, with a number where another series of the session has the name; refuse one that is there."""
        with self._stores.sessions() as session:
            query = select_scans(find_dataset(session, request.dataset).id, subject=request.subject)
            there = session.scalars(query.where(ImagingSession.label == request.session)).all()
            taken = {scan.name: (scan.facts.get("series_uid"), scan.facts.get("volume")) for scan in there}
        same = next((known for known, of in taken.items() if of == (uid, volume)), None)
        if same:
            raise Conflict(
                f"a series that is stored already, as {same} in session {request.session} of subject {request.subject}",
                "one that is not there yet",
                "Leave it out; or give it another session, if it is to be there twice.",
            )
        others = (f"{image_stem(name)}-{number}.dcm.zip" for number in count(2))
        free = next(candidate for candidate in chain((name,), others) if candidate not in taken)
        return request.model_copy(update={"name": free})

    def _find_owner(self, request: ScanRequest) -> "Owner":
        from voxelight.storage.formats.deidentify import Owner

        with self._stores.sessions() as session:
            dataset = find_dataset(session, request.dataset)
            sealed = request.name.lower().endswith(SEALED_SUFFIXES) and has_links(session)
            return Owner(self._key, dataset.id, request.subject, dataset.keeps_headers, sealed)

    def _store(self, accepted: "Accepted", request: ScanRequest, source: BlobRef | None = None) -> ScanAnswer:
        """Store the content, then name it by a row; what was taken out of it is sealed in the same transaction."""
        from voxelight.app.embedding import embed_scan
        from voxelight.storage.formats.images import encode_png

        blobs = self._stores.blobs
        ref = blobs.put_file(accepted.path, source.sha256 if source and not accepted.changed else None)
        small = blobs.put_bytes(encode_png(accepted.picture)) if accepted.picture is not None else None
        facts = dict(accepted.intake.facts)
        if source and source.sha256 != ref.sha256:
            facts["source_sha256"] = source.sha256
        request = request.model_copy(update={"name": accepted.name})
        answer = self._write_down(request, accepted, facts, (ref, small))
        embed_scan(self._stores, answer.id)
        return answer

    def _write_down(
        self,
        request: ScanRequest,
        accepted: "Accepted",
        facts: dict[str, Any],
        stored: tuple[BlobRef, BlobRef | None],
        tries: int = _TRIES,
    ) -> ScanAnswer:
        """Name the content by a row; once more where another scan brought the same new subject or session meanwhile."""
        try:
            with self._stores.sessions.begin() as session:
                return answer_scan(self._write(session, request, accepted, facts, stored))
        except IntegrityError:
            with self._stores.sessions() as session:
                self._refuse_second(session, find_dataset(session, request.dataset), request, request.name)
            if tries <= 1:
                raise
        return self._write_down(request, accepted, facts, stored, tries - 1)

    def _write(
        self,
        session: Session,
        request: ScanRequest,
        accepted: "Accepted",
        facts: dict[str, Any],
        stored: tuple[BlobRef, BlobRef | None],
    ) -> Scan:
        (ref, small), intake = stored, accepted.intake
        dataset = find_dataset(session, request.dataset)
        subject = _find_or_add(session, Subject, dataset_id=dataset.id, label=request.subject)
        visit = _find_or_add(session, ImagingSession, subject_id=subject.id, label=request.session)
        name_blob(session, ref, intake.media_type)
        if small:
            name_blob(session, small, "image/png")
        if accepted.identity:
            write_link(session, self._key, dataset.id, accepted.identity)
        scan = Scan(
            imaging_session=visit,
            name=request.name,
            kind=intake.kind,
            geometry=intake.geometry.model_dump(mode="json") if intake.geometry else {},
            facts=facts,
            warnings=[warning.model_dump() for warning in intake.warnings],
            deid_status=accepted.status,
            held=accepted.held,
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
