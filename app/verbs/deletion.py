"""Delete for good: rows, files that no other row names, vectors, what was cached; and write a receipt."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.hospital.pseudonyms import forget_received
from voxelight.app.schemas import Page
from voxelight.app.schemas_deletion import (
    DeletionAnswer,
    DeletionRequest,
    DeletionTarget,
    ReceiptAnswer,
    SearchedAnswer,
)
from voxelight.app.verbs.vectors import Vectors
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.access import seeing_everything
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
from voxelight.storage.derived import MadeModel, find_hashes, find_models, mark_models, remove_models
from voxelight.storage.erasure import find_labels
from voxelight.storage.proof import Needles, collect, search
from voxelight.storage.queries import find_dataset, find_row, read_page
from voxelight.storage.schema import Dataset, Job, Receipt, Run, Scan, Subject, utc_now
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
        with self._stores.sessions() as session, _found(session, target) as row:
            removed = measure(session, find_extent(session, row))
            return _answer(target, _name(row), removed, self._find_models(session, removed))

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
            The name that was typed is another, or models were trained on it and nobody said what becomes of them.
        Conflict
            A job works on it.
        """
        if request.dry_run:
            return self.plan(target)
        with self._stores.sessions.begin() as session, _found(session, target) as row:
            names = _name(row)
            _refuse_unconfirmed(request, target, names[1])
            extent = find_extent(session, row)
            # Held until the end, so that no job and no scan comes to the data set meanwhile.
            project = session.get_one(Dataset, extent.dataset_id, with_for_update=True).project
            refuse_active(session, extent)
            removed = measure(session, extent)
            models = self._find_models(session, removed)
            _refuse_undecided(request, models)
            check(_answer(target, names, removed, models))
            needles = collect(session, self._stores.blobs, removed) if request.prove else None
            labels = find_labels(session, extent)
            remove_rows(session, removed)
            receipt = write_receipt(session, removed, target.what, names[0], request.author, request.reason)
            receipt.project = project
            if models:
                word = "deleted" if request.models == "delete" else "kept, and marked"
                receipt.counts = receipt.counts | {f"models {word}": len(models)}
            answer = _answer(target, names, removed, models, receipt.id)
        self._settle_models(request, models, answer, removed)
        self._remove_files(removed)
        forget_received(self._stores.cache.parent, labels)
        return answer if needles is None else self._prove(answer, needles)

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

    def _find_models(self, session: Session, removed: Removed) -> list[MadeModel]:
        extent = removed.extent
        hashes = find_hashes(session, sorted(extent.scans))
        return find_models(self._stores.weights, extent.jobs | extent.touched, hashes)

    def _settle_models(
        self, request: DeletionRequest, models: list[MadeModel], answer: DeletionAnswer, removed: Removed
    ) -> None:
        if request.models == "delete":
            remove_models(self._stores.weights, models)
        elif models:
            day = utc_now().date().isoformat()
            note = f"Trained on data that were erased on {day} (receipt {answer.receipt})."
            mark_models(self._stores.weights, models, note, removed.sha256s)

    def _prove(self, answer: DeletionAnswer, needles: Needles) -> DeletionAnswer:
        """Search everything for what went, and write the outcome into the receipt."""
        assert answer.receipt is not None
        proof = [
            SearchedAnswer(place=each.place, things=each.things, bytes=each.size, found=each.found)
            for each in search(self._stores, needles)
        ]
        with self._stores.sessions.begin() as session:
            row = find_row(session, Receipt, answer.receipt)
            row.proof = [each.model_dump() for each in proof]
            row.counts = row.counts | {"searched for": needles.count}
        return answer.model_copy(update={"proof": proof, "not_searched": list(needles.skipped)})

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
        for job_id in removed.extent.jobs | removed.extent.touched:
            for folder in ("trainings", "glm"):
                shutil.rmtree(self._stores.cache / folder / str(job_id), ignore_errors=True)
        if removed.stages:  # kept under hashes of what made them, so nobody can tell whose they are
            for path in self._stores.cache.glob("*.safetensors"):
                path.unlink(missing_ok=True)
            shutil.rmtree(self._stores.cache / "targets", ignore_errors=True)
        for upload_id in removed.extent.uploads:
            self._uploads.remove(upload_id)
        self._vectors.follow()
        forget_deleted(self._stores.engine)


@contextmanager
def _found(session: Session, target: DeletionTarget) -> Iterator[Target]:
    """Find what is to go among what shows; what hangs on it is then followed into every project."""
    row = _find(session, target)
    with seeing_everything(session):
        yield row


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


def _refuse_undecided(request: DeletionRequest, models: list[MadeModel]) -> None:
    if models and request.models is None:
        raise BadInput(
            f"{len(models)} trained on it: {_join(models)}",
            "models=delete or models=keep",
            "Weights are fitted to the data: say whether these models go too, or stay and are marked.",
        )


def _join(models: list[MadeModel]) -> str:
    return ", ".join(f"{model.kind} {model.name}" for model in models)


def _answer(
    target: DeletionTarget,
    names: tuple[str, str],
    removed: Removed,
    models: list[MadeModel],
    receipt: uuid.UUID | None = None,
) -> DeletionAnswer:
    return DeletionAnswer(
        what=target.what,
        name=names[0],
        confirm=names[1],
        dry_run=receipt is None,
        counts={what: count for what, count in removed.counts.items() if count},
        shared=removed.shared,
        sha256s=list(removed.sha256s),
        receipt=receipt,
        url=f"{PATH}/{receipt}" if receipt else None,
        models=[f"{model.kind} {model.name}" for model in models],
        proof=[],
        not_searched=[],
    )


def _answer_receipt(row: Receipt) -> ReceiptAnswer:
    return ReceiptAnswer(**{name: getattr(row, name) for name in ReceiptAnswer.model_fields})
