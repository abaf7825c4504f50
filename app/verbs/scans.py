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
from voxelight.storage.access import find_owner
from voxelight.storage.artifacts import CHUNK_BYTES, BlobRef, Incoming
from voxelight.storage.checks import Checks, FoundSeries
from voxelight.storage.formats.dicom.refusals import Convertible
from voxelight.storage.formats.names import SEALED_SUFFIXES, find_stored_name, image_stem, safe_name
from voxelight.storage.identity import IdentityKey
from voxelight.storage.identity_links import has_links, write_link
from voxelight.storage.queries import find_dataset, find_row, read_page, select_scans
from voxelight.storage.sandbox import Stopped
from voxelight.storage.schema import Dataset, ImagingSession, Scan, Subject
from voxelight.storage.stores import Stores, name_blob

if TYPE_CHECKING:
    from voxelight.storage.formats.accepted import Accepted, Owner
    from voxelight.storage.formats.found import Intake
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

    @property
    def checks(self) -> Checks:
        """What reads files from elsewhere."""
        return self._stores.checks

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
        ref, owner = incoming.finish(), self._find_owner(request)
        prefer = request.prefer or self._prefer
        with self._stores.checks.accept_file(incoming.path, request.name, owner, prefer, request.volume) as accepted:
            return self._store(accepted, request, ref)

    def keep_reference(self, content: bytes, intake: "Intake", request: ScanRequest) -> ScanAnswer:
        """Store what was found in files that stay where they are, as a scan.

        Parameters
        ----------
        content : what says where they are
        intake : what they are
        request : whose they are, and the name
        """
        from voxelight.storage.formats.accepted import Accepted

        with self.receive(request) as incoming:
            incoming.write(content)
            ref = incoming.finish()
            accepted = Accepted(incoming.path, request.name, intake, picture=None, status="clean", changed=False)
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
        scans: list[ScanAnswer] = []
        found, refused = self._find_series(paths, request.name)
        if request.volume is not None:
            refused += _find_absent(found, request.volume)
            found = [series for series in found if series.volume in (None, request.volume)]
        for series in found:
            try:
                scans.append(self._ingest_one(series, paths, request))
            except Convertible as reason:
                with self._noting(series, refused):
                    scans.extend(self._ingest_converted(series, paths, request, reason))
            except VoxelightError as error:
                refused.append((series.title, error))
        return scans, refused

    def _find_series(
        self, paths: Sequence[Path], name: str
    ) -> tuple[Sequence[FoundSeries], list[tuple[str, VoxelightError]]]:
        """Return the series below some paths, without what the reader of headers breaks down at, and what that is."""
        checks = self._stores.checks
        try:
            return checks.list_series(paths, name), []
        except Stopped:
            if len(paths) == 1:
                raise
        sound: list[Path] = []
        refused: list[tuple[str, VoxelightError]] = []
        for path in paths:
            try:
                checks.list_series([path], path.name)
            except Stopped as error:
                refused.append((path.name, error))
                continue
            except BadInput:
                pass  # no image by itself; among the others it may say more
            sound.append(path)
        return (checks.list_series(sound, name) if sound else []), refused

    def _ingest_one(self, series: FoundSeries, paths: Sequence[Path], request: ScanRequest) -> ScanAnswer:
        checks = self._stores.checks
        checks.check_series(series, paths)
        owner = self._find_owner(request.model_copy(update={"name": series.name}))
        named = self._name_series(request, series.name, owner.name_uid(series.uid), series.volume)
        with self.receive(named), checks.accept_series(series, paths, named.name, owner) as accepted:
            return self._store(accepted, named)

    def _ingest_converted(
        self, series: FoundSeries, paths: Sequence[Path], request: ScanRequest, reason: BadInput
    ) -> Iterator[ScanAnswer]:
        """Yield scans of what dcm2niix makes of a series; what may have writing in its picture is not converted."""
        stem, checks = image_stem(series.name), self._stores.checks
        with (
            self.receive(request.model_copy(update={"name": f"{stem}.nii.gz"})),
            checks.convert_series(series, paths, reason) as files,
        ):
            for number, (path, made) in enumerate(files, start=1):
                named = f"{stem}{f'-{number}' if len(files) > 1 else ''}.nii.gz"
                each = request.model_copy(update={"name": named})
                with self.receive(each), checks.accept_converted(path, named, self._find_owner(each), made) as accepted:
                    yield self._store(accepted, each)

    @contextmanager
    def _noting(self, series: FoundSeries, refused: "list[tuple[str, VoxelightError]]") -> Iterator[None]:
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
        from voxelight.storage.formats.accepted import Owner

        with self._stores.sessions() as session:
            dataset = find_dataset(session, request.dataset)
            sealed = request.name.lower().endswith(SEALED_SUFFIXES) and has_links(session)
            return Owner(self._key, dataset.id, request.subject, dataset.keeps_headers, sealed)

    def _store(self, accepted: "Accepted", request: ScanRequest, source: BlobRef | None = None) -> ScanAnswer:
        """Store the content, without its face where the data set asks for that."""
        with self._stores.sessions() as session:
            removes_faces = find_dataset(session, request.dataset).removes_faces
        if not removes_faces:
            return self._put(accepted, request, source)
        with self._stores.checks.without_face(accepted) as faceless:
            return self._put(faceless.accepted, request, source)

    def _put(self, accepted: "Accepted", request: ScanRequest, source: BlobRef | None = None) -> ScanAnswer:
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
        owner = find_owner(session)
        self._stores.quotas.reserve(session, dataset, owner, ref.size)
        scan = Scan(
            imaging_session=visit,
            name=request.name,
            owner=owner,
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


def _find_absent(found: Sequence[FoundSeries], volume: int) -> list[tuple[str, VoxelightError]]:
    """Return the series of several volumes that have no volume of such a number, each with the reason."""
    there: dict[str, list[FoundSeries]] = {}
    for series in found:
        if series.volume is not None:
            there.setdefault(series.uid, []).append(series)
    return [
        (
            parts[0].title,
            BadInput(f"volume {volume} of {parts[0].title}", f"one from 1 to {len(parts)}",
                     "Choose another one, or leave the volume out to store each as a scan."),
        )
        for parts in there.values()
        if volume not in {part.volume for part in parts}
    ]  # fmt: skip
