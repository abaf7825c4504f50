"""Uploads that pause and go on, alone or as a batch; once whole, they go through the intake as every file does."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from voxelight.app.schemas import Page, ScanAnswer, ScanRequest
from voxelight.app.schemas_uploads import BatchAnswer, RefusedPart, UploadAnswer, UploadRequest
from voxelight.app.verbs.answers import answer_scan
from voxelight.app.verbs.arrivals import Arrivals, find_place
from voxelight.app.verbs.drops import refuse_name, stands_alone
from voxelight.app.verbs.scans import Scans
from voxelight.models.errors import Conflict, NotFound, Unavailable
from voxelight.storage.access import find_owner, own_key, seeing_everything
from voxelight.storage.queries import find_dataset, find_row, read_page
from voxelight.storage.schema import Scan, Upload, utc_now
from voxelight.storage.stored import ListedFile
from voxelight.storage.stores import Stores
from voxelight.storage.uploads import Gone, OverQuota, Piece, TooLarge, UploadFiles

EXPIRES_AFTER = timedelta(days=7)
_YOUNG_S = 3600.0
_FIELDS = ("name", "subject", "session", "size", "batch", "prefer", "volume")


class Uploads:
    """Files that come in pieces.

    Parameters
    ----------
    stores : where rows are kept
    scans : which knows what names are taken
    arrivals : which takes in what is whole
    files : where bytes lie until then
    limit_bytes : of one file
    """

    def __init__(self, stores: Stores, scans: Scans, arrivals: Arrivals, files: UploadFiles, limit_bytes: int) -> None:
        self._stores = stores
        self._scans = scans
        self._arrivals = arrivals
        self._files = files
        self.limit_bytes = limit_bytes

    def create(self, request: UploadRequest, idempotency_key: str | None = None) -> UploadAnswer:
        """Begin an upload; the same key gives the same one.

        Raises
        ------
        BadInput
            The name is no plain file name, or the file is larger than what is accepted (`TooLarge`).
        NotFound
            There is no such data set.
        Conflict
            The session has a scan of that name, or the key belongs to another upload.
        Unavailable
            The disk has no room for it.
        OverQuota
            Project or account may not hold that much.
        """
        if idempotency_key and (known := self._find_by_key(idempotency_key, request)):
            return known
        self._refuse(request)
        if self._arrivals.is_sweep_due():
            self.sweep()
        upload_id = uuid.uuid4()
        self._files.create(upload_id)
        try:
            with self._stores.sessions.begin() as session:
                fields = {name: getattr(request, name) for name in _FIELDS}
                dataset, owner = find_dataset(session, request.dataset), find_owner(session)
                self._stores.quotas.reserve(session, dataset, owner, request.size)
                upload = Upload(
                    id=upload_id,
                    dataset=dataset,
                    owner=owner,
                    idempotency_key=own_key(session, idempotency_key),
                    expires_at=utc_now() + EXPIRES_AFTER,
                    **fields,
                )
                session.add(upload)
        except OverQuota:
            self._files.remove(upload_id)
            raise
        except IntegrityError:
            self._files.remove(upload_id)
            if idempotency_key and (known := self._find_by_key(idempotency_key, request)):
                return known
            raise
        return self.show(upload_id)

    def show(self, upload_id: uuid.UUID) -> UploadAnswer:
        """Return how far an upload is and what it became.

        Raises
        ------
        NotFound
            There is none of that id; `Gone` where its time is over.
        """
        with self._stores.sessions() as session:
            answers = self._answer(session, [_find(session, upload_id)])
        if not answers:
            raise gone()
        return answers[0]

    def list(self, dataset: str | None = None, limit: int = 100, cursor: str | None = None) -> Page[UploadAnswer]:
        """Return uploads whose time is not over, newest first."""
        with self._stores.sessions() as session:
            query = select(Upload).where(Upload.expires_at > utc_now())
            if dataset:
                query = query.where(Upload.dataset_id == find_dataset(session, dataset).id)
            rows, following = read_page(session, query, (Upload.created_at, Upload.id), limit, cursor)
            return Page(items=[*self._answer(session, rows)], next_cursor=following)

    @contextmanager
    def append(self, upload_id: uuid.UUID, offset: int, checksum: tuple[str, bytes] | None = None) -> Iterator[Piece]:
        """Take in one piece; what came stays although the block is left by an error, so that the sender can go on.

        Parameters
        ----------
        upload_id : of an upload that is not whole
        offset : bytes, where the piece begins
        checksum : algorithm and hash of the piece; one that differs is not kept

        Raises
        ------
        NotFound
            There is none of that id; `Gone` where its time is over.
        Conflict
            It has another length than `offset`, or another request writes to it (`Locked`).
        """
        with self._stores.sessions.begin() as session:
            upload = _find(session, upload_id)
            size, status = upload.size, upload.status
            upload.expires_at = utc_now() + EXPIRES_AFTER
        if status != "open":
            raise Conflict(f"an upload that is {status}", "one that is open", "Look at what it became.")
        with self._files.append(upload_id, offset, size, checksum) as piece:
            yield piece

    def cancel(self, upload_id: uuid.UUID) -> None:
        """Forget an upload and what came of it; scans that it became stay.

        Raises
        ------
        NotFound
            There is none of that id.
        Locked
            Its bytes are coming in or being checked.
        """
        with self._stores.sessions.begin() as session:
            upload = find_row(session, Upload, upload_id)
            if upload.status == "open" and self._files.path(upload_id).exists():
                with self._files.held(upload_id):
                    self._files.remove(upload_id)
            session.delete(upload)

    def show_batch(self, batch: uuid.UUID) -> BatchAnswer:
        """Return how far the files of a batch are, and what they became.

        Raises
        ------
        NotFound
            No file belongs to it.
        """
        with self._stores.sessions() as session:
            answers = self._answer(session, _list_batch(session, batch))
        counts = {status: sum(answer.status == status for answer in answers) for status in ("waiting", "done")}
        scans = {scan.id: scan for answer in answers for scan in answer.scans}
        problems = {(part.name, part.problem.detail): part for answer in answers for part in answer.problems}
        return BatchAnswer(
            id=batch,
            files=len(answers),
            open=sum(answer.status in ("open", "checking") for answer in answers),
            refused=sum(answer.status == "refused" for answer in answers),
            **counts,
            scans=list(scans.values()),
            problems=list(problems.values()),
        )

    def close_batch(self, batch: uuid.UUID) -> BatchAnswer:
        """Take in what waits in a batch, DICOM files by series; closed again, it gives the same.

        Raises
        ------
        NotFound
            No file belongs to it.
        Conflict
            Files are not whole yet.
        """
        with self._stores.sessions() as session:
            rows = _list_batch(session, batch)
            waiting = [row for row in rows if row.status == "open" and _waits(row)]
            missing = [row for row in waiting if (self._files.size(row.id) or 0) < row.size]
            places = {(row.id, row.name): find_place(row) for row in waiting}
        if missing:
            raise Conflict(
                f"{len(missing)} of {len(rows)} files that are not whole, {missing[0].name} for one",
                "a batch whose files have all come",
                "Send the rest, or remove what shall not come.",
            )
        with self._files.held(batch, create=True):
            for place in dict.fromkeys(places.values()):
                self._arrivals.take_in([key for key, where in places.items() if where == place], place)
            self._files.remove(batch)
        return self.show_batch(batch)

    def sweep(self) -> Sequence[str]:
        """Remove uploads whose time is over, and files that belong to none; return the ids."""
        with self._stores.sessions.begin() as session, seeing_everything(session):
            over = session.scalars(select(Upload.id).where(Upload.expires_at <= utc_now())).all()
            for upload_id in over:
                self._files.remove(upload_id)
            session.execute(delete(Upload).where(Upload.id.in_(over)))
            known = {upload_id.hex for upload_id in session.scalars(select(Upload.id).where(Upload.status == "open"))}
        return [*(upload_id.hex for upload_id in over), *self._files.sweep(known, _YOUNG_S)]

    def list_files(self) -> dict[str, ListedFile]:
        """Return the files of uploads that are under way, by their id in hex."""
        return self._files.list_files()

    def close(self) -> None:
        """Wait for the checks that run; those that are due go on when somebody asks for the upload."""
        self._arrivals.close()

    def _refuse(self, request: UploadRequest) -> None:
        if request.size > self.limit_bytes:
            raise TooLarge(
                f"a file of {request.size} bytes",
                f"at most {self.limit_bytes} bytes",
                "Split it, or raise VOXELIGHT_UPLOAD_LIMIT_BYTES.",
            )
        if request.size > (free := self._files.free_bytes()):
            raise Unavailable(
                f"{free} bytes free on the server's disk", f"{request.size} bytes", "Make room there, then try again."
            )
        refuse_name(request.name)
        with self._scans.receive(_name(request)):
            pass  # name and data set are fine, and nothing of that name is there

    def _find_by_key(self, key: str, request: UploadRequest) -> UploadAnswer | None:
        with self._stores.sessions() as session:
            upload = session.scalar(select(Upload).where(Upload.idempotency_key == own_key(session, key)))
            if upload is None:
                return None
            fields = [name for name in _FIELDS if name != "name" or upload.status != "done"]  # which loses its name
            same = all(getattr(upload, name) == getattr(request, name) for name in fields)
            if not same or upload.dataset.name != request.dataset:
                raise Conflict(
                    f"the key {key[:40]!r} of another upload", "a key of its own", "Send another Idempotency-Key."
                )
            return self._answer(session, [upload])[0]

    def _answer(self, session: Session, uploads: Sequence[Upload]) -> Sequence[UploadAnswer]:
        """Show uploads; what is whole and was not checked, after a restart for one, is checked now."""
        offsets = {upload.id: self._find_offset(session, upload) for upload in uploads}
        ids = {uuid.UUID(scan) for upload in uploads for scan in upload.scans}
        scans = {str(scan.id): answer_scan(scan) for scan in session.scalars(select(Scan).where(Scan.id.in_(ids)))}
        answers = []
        for upload in uploads:
            if (offset := offsets[upload.id]) is None:
                continue
            status = upload.status
            if status == "open" and offset == upload.size:
                status = "waiting" if _waits(upload) else "checking"
            if status == "checking":
                self._arrivals.check_soon(upload)
            answers.append(_show(upload, offset, status, scans))
        return answers

    def _find_offset(self, session: Session, upload: Upload) -> int | None:
        if upload.status == "open" and (size := self._files.size(upload.id)) is not None:
            return size
        if upload.status == "open":
            session.rollback()  # it may have been checked since the row was read: read it anew
        return upload.size if upload.status != "open" else None


def gone() -> Gone:
    """Return the error that an upload is not under way any more."""
    return Gone("an upload whose time is over", "one under way", "Start it again from the beginning.")


def _find(session: Session, upload_id: uuid.UUID) -> Upload:
    upload = find_row(session, Upload, upload_id)
    if upload.expires_at <= utc_now():
        raise gone()
    return upload


def _list_batch(session: Session, batch: uuid.UUID) -> Sequence[Upload]:
    query = select(Upload).where(Upload.batch == batch, Upload.expires_at > utc_now())
    rows = session.scalars(query.order_by(Upload.created_at, Upload.id)).all()
    if not rows:
        raise NotFound(f"no upload of a batch {batch}", "a batch with files", "Send files with this batch first.")
    return rows


def _waits(upload: Upload) -> bool:
    return upload.batch is not None and not stands_alone(upload.name)


def _name(request: UploadRequest) -> ScanRequest:
    return ScanRequest(name=request.name, dataset=request.dataset, subject=request.subject, session=request.session)


def _show(upload: Upload, offset: int, status: str, scans: dict[str, ScanAnswer]) -> UploadAnswer:
    derived = {"dataset", "offset", "status", "scans", "problems"}
    columns = {name: getattr(upload, name) for name in UploadAnswer.model_fields if name not in derived}
    return UploadAnswer(
        **columns,
        dataset=upload.dataset.name,
        offset=offset,
        status=status,  # type: ignore[arg-type]  # a check constraint in all but name
        scans=[scans[scan] for scan in upload.scans if scan in scans],
        problems=[RefusedPart.model_validate(part) for part in upload.problems],
    )
