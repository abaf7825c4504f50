"""Do the steps of a job: which items are due, do one batch, close. Knows nothing of the engine that calls it."""

import traceback
import uuid
from collections import OrderedDict

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session, joinedload

from voxelight.app.pipelines import OpenPipeline, find_pipeline
from voxelight.app.services import Services
from voxelight.storage.queries import find_row
from voxelight.storage.results import record_failure, record_job, record_run
from voxelight.storage.schema import ImagingSession, Job, Run, Scan, Subject, utc_now

_KEPT_OPEN = 2


class Runner:
    """Runs items with their pipelines kept open, so that weights are loaded once.

    Parameters
    ----------
    services : the installation to work for
    """

    def __init__(self, services: Services) -> None:
        self._stores = services.stores
        self._settings = services.settings
        self._open: OrderedDict[uuid.UUID, OpenPipeline] = OrderedDict()

    def list_batches(self, job_id: uuid.UUID) -> list[list[str]]:
        """Mark a job as running and return the ids of its unfinished runs, in batches."""
        with self._stores.sessions.begin() as session:
            job = find_row(session, Job, job_id)
            if job.status == "cancelled":
                return []
            job.status, job.started_at = "running", job.started_at or utc_now()
            due = session.scalars(
                select(Run.id).where(Run.job_id == job_id, Run.status != "done").order_by(Run.position)
            ).all()
            size = find_pipeline(job.kind).batch_size
            return [[str(run_id) for run_id in due[start : start + size]] for start in range(0, len(due), size)]

    def run_batch(self, job_id: uuid.UUID, run_ids: list[str]) -> int:
        """Do the items of one batch that are not done yet, and return how many were done now."""
        return sum(self._run_item(job_id, uuid.UUID(run_id)) for run_id in run_ids)

    def close(self, job_id: uuid.UUID) -> str:
        """Make what belongs to the job as a whole, and give the job its end."""
        error = ""
        with self._stores.sessions() as session:
            job = _read_job(session, job_id)
            runs = list(session.scalars(_select_runs().where(Run.job_id == job_id, Run.status == "done")))
        if job.status == "cancelled":
            return job.status
        try:
            if runs:
                record_job(self._stores, job_id, self._find_open(job).finish(runs))
        except Exception as problem:  # a worker outlives whatever an item or a job meets
            error = f"{type(problem).__name__}: {problem}\n{traceback.format_exc()}"
        with self._stores.sessions.begin() as session:
            job = find_row(session, Job, job_id)
            if job.status != "cancelled":
                job.status = "failed" if error or job.done < job.total else "done"
                job.error, job.finished_at = error, utc_now()
        self._open.pop(job_id, None)
        return job.status

    def _run_item(self, job_id: uuid.UUID, run_id: uuid.UUID) -> bool:
        claimed = self._claim(job_id, run_id)
        if claimed is None:
            return False
        job, run = claimed
        try:
            if run.attempts > self._settings.max_attempts:
                raise WorkerLost(run.attempts - 1)
            record_run(self._stores, run_id, self._find_open(job).run_item(run))
        except Exception as problem:  # the rest of the batch goes on
            record_failure(self._stores, run_id, type(problem).__name__, str(problem), traceback.format_exc(limit=-20))
            return False
        return True

    def _claim(self, job_id: uuid.UUID, run_id: uuid.UUID) -> tuple[Job, Run] | None:
        """Mark a run as started, in a transaction of its own, unless it is done or the job was cancelled."""
        with self._stores.sessions.begin() as session:
            job = _read_job(session, job_id)
            if job.status == "cancelled":
                return None
            claimed = session.execute(
                update(Run)
                .where(Run.id == run_id, Run.status != "done")
                .values(status="running", attempts=Run.attempts + 1, started_at=utc_now(), finished_at=None)
            )
            if claimed.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE always has it
                return None
            return job, session.scalars(_select_runs().where(Run.id == run_id)).one()

    def _find_open(self, job: Job) -> OpenPipeline:
        if job.id not in self._open:
            self._open[job.id] = find_pipeline(job.kind).open(self._stores, job, self._settings.device)
            while len(self._open) > _KEPT_OPEN:
                self._open.popitem(last=False)
        return self._open[job.id]


class WorkerLost(RuntimeError):
    """An item took its worker down each time it was tried."""

    def __init__(self, starts: int) -> None:
        super().__init__(
            f"Found {starts} starts of this item that ended with the worker; expected it to end by itself. "
            "Look for too little memory, or try the item on another machine."
        )


def _read_job(session: Session, job_id: uuid.UUID) -> Job:
    return session.scalars(
        select(Job).where(Job.id == job_id).options(joinedload(Job.dataset), joinedload(Job.model))
    ).one()


def _select_runs() -> Select[Run]:
    return select(Run).options(
        joinedload(Run.job).joinedload(Job.dataset),
        joinedload(Run.subject),
        joinedload(Run.scan).joinedload(Scan.blob),
        joinedload(Run.scan)
        .joinedload(Scan.imaging_session)
        .joinedload(ImagingSession.subject)
        .joinedload(Subject.dataset),
    )
