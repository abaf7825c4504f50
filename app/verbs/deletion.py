"""Delete for good: rows, files that no other row names, vectors, what was cached; and write a receipt."""

import uuid
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.schemas import Page
from voxelight.app.schemas_deletion import DeletionAnswer, DeletionRequest, DeletionTarget, ReceiptAnswer
from voxelight.app.verbs.vectors import Vectors
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.database import forget_deleted
from voxelight.storage.deletion import (
    Removed,
    find_extent,
    find_named,
    measure,
    refuse_active,
    remove_rows,
    write_receipt,
)
from voxelight.storage.queries import find_dataset, find_row, read_page
from voxelight.storage.schema import Dataset, Job, Receipt, Run, Scan, Subject
from voxelight.storage.stores import Stores
from voxelight.storage.uploads import UploadFiles

PATH = "/api/v1/receipts"
Target = Dataset | Subject | Scan | Job | Run


class Deletion:
    """Deletions and their receipts.

    Parameters
    ----------
    stores : where everything lies
    vectors : whose index files follow
    uploads : files of uploads under way
    """

    def __init__(self, stores: Stores, vectors: Vectors, uploads: UploadFiles) -> None:
        self._stores = stores
        self._vectors = vectors
        self._uploads = uploads

    def plan(self, target: DeletionTarget) -> DeletionAnswer:
        """Say what would go.

        Raises
        ------
        NotFound
            There is no such thing.
        """
        with self._stores.sessions() as session:
            row = _find(session, target)
            name, confirm = _name(row)
            return _answer(target, name, confirm, measure(session, find_extent(session, row)), None)

    def delete(
        self,
        target: DeletionTarget,
        request: DeletionRequest,
        check: Callable[[DeletionAnswer], None] = lambda _planned: None,
    ) -> DeletionAnswer:
        """Delete something with all that belongs to it; with `dry_run`, say what would go.

        Parameters
        ----------
        target : what
        request : who, why, and its name once more
        check : is told what would go, before anything does, and may refuse

        Raises
        ------
        NotFound
            There is no such thing.
        BadInput
            The name that was typed is another.
        Conflict
            A job works on it.
        """
        if request.dry_run:
            return self.plan(target)
        with self._stores.sessions.begin() as session:
            row = _find(session, target)
            name, confirm = _name(row)
            _refuse_unconfirmed(request, target, confirm)
            extent = find_extent(session, row)
            # Held until the end, so that no job and no scan comes to the data set meanwhile.
            session.get(Dataset, extent.dataset_id, with_for_update=True)
            refuse_active(session, extent)
            removed = measure(session, extent)
            check(_answer(target, name, confirm, removed, None))
            remove_rows(session, removed)
            receipt = write_receipt(session, removed, target.what, name, request.author, request.reason)
            answer = _answer(target, name, confirm, removed, receipt.id)
        self._remove_files(removed)
        return answer

    def list_receipts(self, limit: int = 100, cursor: str | None = None) -> Page[ReceiptAnswer]:
        """Return receipts, newest first."""
        with self._stores.sessions() as session:
            rows, following = read_page(session, select(Receipt), (Receipt.created_at, Receipt.id), limit, cursor)
            return Page(items=[_answer_receipt(row) for row in rows], next_cursor=following)

    def show_receipt(self, receipt_id: uuid.UUID) -> ReceiptAnswer:
        """Return one receipt.

        Raises
        ------
        NotFound
            There is none.
        """
        with self._stores.sessions() as session:
            return _answer_receipt(find_row(session, Receipt, receipt_id))

    def _remove_files(self, removed: Removed) -> None:
        """Remove what lies beside the rows, once they are gone; what a row has named again meanwhile stays."""
        with self._stores.sessions() as session:
            again = find_named(session, removed.sha256s)
        for sha256 in removed.sha256s:
            if sha256 not in again:
                self._stores.blobs.remove(sha256)
            (self._stores.cache / "images" / f"{sha256}.nii.gz").unlink(missing_ok=True)
        for run_id in removed.extent.runs:
            for path in (self._stores.cache / "sheets").glob(f"{run_id}-*"):
                path.unlink(missing_ok=True)
        if removed.stages:  # kept under hashes of what made them, so nobody can tell whose they are
            for path in self._stores.cache.glob("*.safetensors"):
                path.unlink(missing_ok=True)
        for upload_id in removed.extent.uploads:
            self._uploads.remove(upload_id)
        self._vectors.follow()
        forget_deleted(self._stores.engine)


def _find(session: Session, target: DeletionTarget) -> Target:
    if target.what in ("dataset", "subject"):
        assert target.dataset is not None
        dataset = find_dataset(session, target.dataset)
        if target.what == "dataset":
            return dataset
        subject = session.scalar(
            select(Subject).where(Subject.dataset_id == dataset.id, Subject.label == target.subject)
        )
        if subject is None:
            raise NotFound(
                f"no subject {target.subject!r} in data set {target.dataset!r}", "a subject's label", "List its scans."
            )
        return subject
    assert target.id is not None
    if target.what == "scan":
        return find_row(session, Scan, target.id)
    return find_row(session, Job, target.id) if target.what == "job" else find_row(session, Run, target.id)


def _name(row: Target) -> tuple[str, str]:
    """Return what a receipt calls a row, by labels and ids alone, and what confirms its deletion."""
    if isinstance(row, Dataset):
        return row.name, row.name
    if isinstance(row, Subject):
        return f"{row.dataset.name}/{row.label}", row.label
    if isinstance(row, Scan):
        subject = row.imaging_session.subject
        return f"{subject.dataset.name}/{subject.label}/{row.imaging_session.label}/{row.id}", str(row.id)
    job = row if isinstance(row, Job) else row.job
    return f"{job.dataset.name}/{job.recipe}/{row.id}", str(row.id)


def _refuse_unconfirmed(request: DeletionRequest, target: DeletionTarget, confirm: str) -> None:
    if request.confirm != confirm:
        raise BadInput(
            f"the confirmation {request.confirm!r}" if request.confirm else "no confirmation",
            f"confirm={confirm}",
            f"Look with dry_run at what goes with the {target.what}, then repeat its name: it does not come back.",
        )


def _answer(
    target: DeletionTarget, name: str, confirm: str, removed: Removed, receipt: uuid.UUID | None
) -> DeletionAnswer:
    return DeletionAnswer(
        what=target.what,
        name=name,
        confirm=confirm,
        dry_run=receipt is None,
        counts={what: count for what, count in removed.counts.items() if count},
        shared=removed.shared,
        sha256s=list(removed.sha256s),
        receipt=receipt,
        url=f"{PATH}/{receipt}" if receipt else None,
    )


def _answer_receipt(row: Receipt) -> ReceiptAnswer:
    return ReceiptAnswer(**{name: getattr(row, name) for name in ReceiptAnswer.model_fields})
