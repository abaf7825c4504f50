"""Whether the books balance: counters with rows, files with rows, queues with jobs, uploads with files."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from sqlalchemy import exists, func, or_, select

from voxelight.app.schemas import DECODING, Wire
from voxelight.app.services import Services
from voxelight.models.errors import VoxelightError
from voxelight.storage.schema import (
    Action,
    Artifact,
    Blob,
    Job,
    QueueEntry,
    Reconstruction,
    Run,
    Segmentation,
    Upload,
    Worker,
    utc_now,
)
from voxelight.storage.stores import select_used
from voxelight.storage.workers import ALIVE

SWEEP_AGE_S = 86_400.0
_CLOSED = ("done", "failed", "cancelled")
_OPEN = ("queued", "running")
_SETTLING_S = 60.0  # for a worker to notice what was cancelled


class Discrepancy(Wire):
    """Something that does not add up."""

    what: str
    found: str
    expected: str
    remedy: str


def audit(services: Services, older_than_s: float = SWEEP_AGE_S, deep: bool = False) -> list[Discrepancy]:
    """Compare everything that is written down twice, and return what differs.

    Parameters
    ----------
    services : the installation; nothing of it is changed
    older_than_s : age in seconds from which something that no row names counts as left over
    deep : read every file and hash it, in place of its size alone
    """
    looks: tuple[Callable[[], Iterator[Discrepancy]], ...] = (
        partial(_audit_counters, services),
        partial(_audit_ends, services),
        partial(_audit_results, services),
        partial(_audit_blobs, services, older_than_s, deep),
        partial(_audit_queues, services, min(older_than_s, _SETTLING_S)),
        partial(_audit_uploads, services, older_than_s),
    )
    return [each for look in looks for each in look()]


def _audit_counters(services: Services) -> Iterator[Discrepancy]:
    rows = (  # one statement, since each sees the database at a moment of its own, and work goes on
        select(
            Job.id, Job.total, Job.done, Job.failed, func.count(Run.id),
            func.count(Run.id).filter(Run.status == "done"), func.count(Run.id).filter(Run.status == "failed"),
        )
        .outerjoin(Run, Run.job_id == Job.id)
        .group_by(Job.id)
    )  # fmt: skip
    with services.stores.sessions() as session:
        for job, *counts in session.execute(rows):
            found, expected = counts[:3], counts[3:]
            if found != expected:
                yield Discrepancy(
                    what=f"counters of job {job}",
                    found=f"{found[0]} items, {found[1]} done, {found[2]} failed",
                    expected=f"{expected[0]} items, {expected[1]} done, {expected[2]} failed, as its rows say",
                    remedy="Retry the job, or report it: counters change in the transaction that ends an item.",
                )


def _audit_ends(services: Services) -> Iterator[Discrepancy]:
    """Look whether the items of a job that is over are over too."""
    settled = utc_now() - timedelta(seconds=_SETTLING_S)
    left = (
        select(Job.id, Job.status, Run.status, func.count())
        .join(Run, Run.job_id == Job.id)
        .where(Job.status.in_(_CLOSED), Run.status.not_in(_CLOSED))
        # A worker gives back what it was at when it next looks.
        .where(or_(Job.status != "cancelled", Job.finished_at < settled))
        .group_by(Job.id, Job.status, Run.status)
    )
    with services.stores.sessions() as session:
        for job, ended, status, count in session.execute(left):
            yield Discrepancy(
                what=f"items of job {job}",
                found=f"{count} that are {status} in a job that is {ended}",
                expected="done, failed or cancelled",
                remedy=f"Repeat them: voxelight jobs retry {job}",
            )


def _audit_results(services: Services) -> Iterator[Discrepancy]:
    """Look whether what is done has its results, and what is not has none."""
    segmented = exists().where(Segmentation.run_id == Run.id)
    decoded = exists().where(Reconstruction.run_id == Run.id)
    kept = exists().where(Artifact.run_id == Run.id)
    done = Run.status == "done"
    questions = {
        "no label map": (Job.kind == "segment", done, ~segmented),
        "nothing decoded": (Job.kind.in_(DECODING), done, ~decoded),
        "no file": (done, ~kept),
        "results, though it is not done": (~done, or_(segmented, decoded, kept)),
    }
    twice = (
        select(Artifact.job_id, Artifact.role, Artifact.name)
        .where(Artifact.run_id.is_(None), Artifact.role.in_(("contact_sheet", "scores", "card", "folds")))
        .group_by(Artifact.job_id, Artifact.role, Artifact.name)
        .having(func.count() > 1)
    )
    with services.stores.sessions() as session:
        for found, conditions in questions.items():
            for run, job, key in session.execute(
                select(Run.id, Run.job_id, Run.item_key).join(Job, Job.id == Run.job_id).where(*conditions)
            ):
                yield Discrepancy(
                    what=f"item {key} of job {job}",
                    found=found,
                    expected="what its kind gives exactly if it is done",
                    remedy=f"Submit it again: voxelight jobs clone {job}; report run {run}.",
                )
        for job, role, name in session.execute(twice):
            yield Discrepancy(
                what=f"file {name} of job {job}",
                found=f"the role {role} more than once",
                expected="one",
                remedy="Report it: a job's own files replace each other.",
            )


def _audit_blobs(services: Services, older_than_s: float, deep: bool) -> Iterator[Discrepancy]:
    stored = {file.name: file for file in services.stores.blobs.list_stored()}
    old = utc_now() - timedelta(seconds=older_than_s)
    with services.stores.sessions() as session:
        named: dict[str, int] = dict(session.execute(select(Blob.sha256, Blob.size)).all())
        unused = session.scalars(select(Blob.sha256).where(Blob.created_at < old, Blob.sha256.not_in(select_used())))
        for sha256 in unused.all():
            yield _left_over(f"row of blob {sha256[:12]}", "nothing that refers to it")
    for sha256, size in named.items():
        file = stored.get(sha256)
        if file is None:
            # Written after the listing, or lost.
            problem = "" if services.stores.blobs.exists(sha256) else "no file"
        elif deep or file.size != size:  # what is sealed is longer where it lies than what was stored
            problem = _compare(services, sha256, size, deep)
        else:
            problem = ""
        if problem:
            yield Discrepancy(
                what=f"blob {sha256}",
                found=problem,
                expected=f"{size} bytes of this hash",
                remedy="Restore the blob folder from the backup that belongs to this database.",
            )
    with services.stores.sessions() as session:
        for name, file in stored.items():
            if name not in named and file.age_s > older_than_s and session.get(Blob, name) is None:
                yield _left_over(f"file {name} of the blob store", "no row that names it")


def _compare(services: Services, sha256: str, size: int, deep: bool) -> str:
    try:
        with services.stores.blobs.open(sha256) as file:
            if deep:
                found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # any that reads
                return "" if found == sha256 else f"content with the hash {found[:12]}"
            length = file.seek(0, 2)
            return "" if length == size else f"{length} bytes"
    except (OSError, VoxelightError) as error:
        return f"{type(error).__name__}: {error}"


def _left_over(what: str, found: str) -> Discrepancy:
    return Discrepancy(
        what=what, found=found, expected="none of this age", remedy="Reclaim it: voxelight storage sweep"
    )


def _audit_queues(services: Services, settling_s: float) -> Iterator[Discrepancy]:
    """Look whether what is open stands on its queue, what is over does not, and who holds it lives."""
    settled = utc_now() - timedelta(seconds=settling_s)
    with services.stores.sessions() as session:
        entries = {entry.workflow_id: entry for entry in session.scalars(select(QueueEntry))}
        workers = {worker.name: worker for worker in session.scalars(select(Worker))}
        tables: tuple[type[Job] | type[Action], ...] = (Job, Action)
        for table in tables:
            changed = func.coalesce(table.finished_at, table.started_at, table.created_at)
            # A worker takes off the queue what was cancelled while it was at it, once it notices.
            on_queue = [*{entry.action_id or entry.job_id for entry in entries.values()}]
            rows = session.scalars(
                select(table).where(or_(table.status.in_(_OPEN), table.id.in_(on_queue))).where(changed < settled)
            )
            for row in rows:
                assert isinstance(row, Job | Action)
                entry = entries.get(row.workflow_id)
                if (entry is None) == (row.status in _OPEN):
                    yield Discrepancy(
                        what=f"{table.__tablename__} {row.id}, {row.status}",
                        found="not on a queue" if entry is None else "still on a queue",
                        expected="on a queue as long as it is open, and no longer",
                        remedy="Cancel and retry it." if entry is None else "Start a worker, which notices it.",
                    )
        for entry in entries.values():
            holder = workers.get(entry.worker)
            if entry.worker and (holder is None or holder.generation != entry.generation or holder.state not in ALIVE):
                yield Discrepancy(
                    what=f"place {entry.workflow_id} on queue {entry.queue}",
                    found=f"held by {entry.worker}, which is {holder.state if holder else 'not known'}",
                    expected="a holder that lives, or none",
                    remedy="Start a worker, which frees it.",
                )


def _audit_uploads(services: Services, older_than_s: float) -> Iterator[Discrepancy]:
    with services.stores.sessions() as session:
        rows = session.execute(
            select(Upload.id, Upload.size).where(Upload.status == "open", Upload.expires_at > utc_now())
        )
        opened = {upload.hex: size for upload, size in rows}
    files = services.uploads.list_files()
    for upload, size in opened.items():
        there = files.get(upload)
        if there is None or there.size > size:
            yield Discrepancy(
                what=f"upload {upload}",
                found="no file" if there is None else f"{there.size} bytes",
                expected=f"a file of up to {size} bytes",
                remedy="Start the upload again.",
            )
    for name, file in files.items():
        if name not in opened and file.age_s > older_than_s:
            yield _left_over(f"file {name} of an upload", "no upload that is open")
