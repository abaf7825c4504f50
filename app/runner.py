"""Do the steps of a job: which items are due, do one batch, close. Knows nothing of the engine that calls it."""

import socket
import time
import traceback
import uuid
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session, joinedload

from voxelight.app.pipelines import OpenPipeline, find_pipeline
from voxelight.app.services import Services
from voxelight.app.verbs.submission import say_items
from voxelight.storage.joblog import add_event
from voxelight.storage.queries import find_row
from voxelight.storage.results import record_failure, record_job, record_run, release_runs
from voxelight.storage.schema import ImagingSession, Job, Run, Scan, Subject, utc_now

_KEPT_OPEN = 2
DUE = ("pending", "running")  # what a worker left running is done again, what failed is not


class Runner:
    """Runs items with the pipelines of their jobs kept open, so that inputs are read once.

    Parameters
    ----------
    services : the installation to work for
    """

    def __init__(self, services: Services) -> None:
        self._stores = services.stores
        self._vectors = services.vectors
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
                select(Run.id).where(Run.job_id == job_id, Run.status.in_(DUE)).order_by(Run.position)
            ).all()
            add_event(session, job_id, f"Taken up by {socket.gethostname()}: {say_items(len(due))} to do.")
            size = find_pipeline(job.kind).step_size
            return [[str(run_id) for run_id in due[start : start + size]] for start in range(0, len(due), size)]

    def run_batch(self, job_id: uuid.UUID, run_ids: list[str]) -> int:
        """Do the items of one step that are not done yet, and return how many were done now.

        As many as the pipeline takes at once are done together. An item that was started before is done by itself: it
        may be the one that took its worker down.
        """
        with self._stores.sessions() as session:
            job = _read_job(session, job_id)
        due = [uuid.UUID(run_id) for run_id in run_ids]
        waiting, done = due, 0
        try:
            while waiting:
                runs = self._claim(job, waiting[:1])
                if runs:
                    done += self._start(job, runs, waiting[1:])
                waiting = [run_id for run_id in waiting[1:] if run_id not in {run.id for run in runs}]
        except _Cancelled:
            release_runs(self._stores, due)
            self._open.pop(job_id, None)
        return done

    def close(self, job_id: uuid.UUID) -> str:
        """Make what belongs to the job as a whole, and give the job its end."""
        error = ""
        with self._stores.sessions() as session:
            job = _read_job(session, job_id)
            runs = list(session.scalars(_select_runs().where(Run.job_id == job_id, Run.status == "done")))
        if job.status == "cancelled":
            self._open.pop(job_id, None)
            return job.status
        try:
            if runs:
                record_job(self._stores, job_id, self._find_open(job).finish(runs))
        except Exception as problem:  # a worker outlives whatever an item or a job meets
            error = f"{type(problem).__name__}: {problem}\n{traceback.format_exc()}"
        with self._stores.sessions.begin() as session:
            job = find_row(session, Job, job_id)
            if job.status != "cancelled":
                job.status = "failed" if error or job.failed else "done" if job.done == job.total else "cancelled"
                job.error, job.finished_at = error, utc_now()
                _note_end(session, job)
        self._open.pop(job_id, None)
        return job.status

    def _start(self, job: Job, runs: list[Run], waiting: list[uuid.UUID]) -> int:
        """Open the pipeline for a run that was claimed, claim what it takes beside it, and do them."""
        [first] = runs
        try:
            if first.attempts > self._settings.max_attempts:
                raise WorkerLost(first.attempts - 1)
            opened = self._find_open(job)
        except Exception as problem:  # a worker outlives whatever an item or a job meets
            self._record(first, problem)
            return 0
        if first.attempts == 1 and opened.at_once > 1:
            runs += self._claim(job, waiting[: opened.at_once - 1], fresh=True)
        return self._do(opened, runs, partial(self._go_on, job))

    def _do(self, opened: OpenPipeline, runs: list[Run], go_on: Callable[[], None]) -> int:
        """Do runs together; where that fails, one by one, so that a bad item fails none beside it."""
        left = {run.id: run for run in runs}
        began = time.monotonic()
        try:
            for run, outcome in opened.run_items(runs, go_on):
                record_run(self._stores, run.id, outcome)
                del left[run.id]
        except _Cancelled:
            raise
        except Exception as problem:
            if len(runs) == 1:
                self._record(runs[0], problem)
        finally:
            self._note_done([run for run in runs if run.id not in left], time.monotonic() - began)
        # Outside the handler, which would keep what the failed attempt holds on the card.
        alone = left.values() if len(runs) > 1 else ()
        return len(runs) - len(left) + sum(self._do(opened, [run], go_on) for run in alone)

    def _record(self, run: Run, problem: Exception) -> None:
        kind = type(problem).__name__
        record_failure(self._stores, run.id, kind, str(problem), traceback.format_exc(limit=-20))
        with self._stores.sessions.begin() as session:
            add_event(session, run.job_id, f"{run.item_key} failed: {kind}: {problem}", run.id, "error")

    def _note_done(self, runs: list[Run], seconds: float) -> None:
        """Keep what items took: each its share of what was done together."""
        if not runs:
            return
        each = seconds / len(runs)
        with self._stores.sessions.begin() as session:
            session.execute(update(Run).where(Run.id.in_([run.id for run in runs])).values(seconds=each))
            for run in runs:
                add_event(session, run.job_id, f"{run.item_key} done in {each:.1f} s.", run.id)
        for run in runs:
            self._embed(run)

    def _embed(self, run: Run) -> None:
        """Make what a run gave findable by likeness; that it can't be is no failure of the run."""
        try:
            self._vectors.embed_run(run.id)
        except Exception as problem:  # a worker outlives whatever an item or a job meets
            with self._stores.sessions.begin() as session:
                message = f"{run.item_key} can't be found by likeness: {type(problem).__name__}: {problem}"
                add_event(session, run.job_id, message, run.id, "warning")

    def _go_on(self, job: Job) -> None:
        with self._stores.sessions() as session:
            _refuse_cancelled(session, job)

    def _claim(self, job: Job, run_ids: list[uuid.UUID], fresh: bool = False) -> list[Run]:
        """Mark runs as started, in a transaction of their own, and return those that were neither done nor refused.

        Raises
        ------
        _Cancelled
            The job was cancelled.
        """
        with self._stores.sessions.begin() as session:
            _refuse_cancelled(session, job)
            due = update(Run).where(Run.id.in_(run_ids), Run.status.in_(DUE))
            if fresh:
                due = due.where(Run.attempts == 0)
            started = {"status": "running", "attempts": Run.attempts + 1, "started_at": utc_now(), "finished_at": None}
            claimed = session.scalars(due.values(**started).returning(Run.id)).all()
            runs = list(session.scalars(_select_runs().where(Run.id.in_(claimed)).order_by(Run.position)))
            for run in runs:
                again = f", start {run.attempts}" if run.attempts > 1 else ""
                add_event(session, run.job_id, f"{run.item_key} started{again}.", run.id)
            return runs

    def _find_open(self, job: Job) -> OpenPipeline:
        if job.id not in self._open:
            self._open[job.id] = find_pipeline(job.kind).open(self._stores, job, self._settings.device)
            while len(self._open) > _KEPT_OPEN:
                self._open.popitem(last=False)
        return self._open[job.id]


def _note_end(session: Session, job: Job) -> None:
    failed = f", {job.failed} failed" if job.failed else ""
    level = "info" if job.status == "done" else "warning"
    add_event(session, job.id, f"Ended: {job.done} of {say_items(job.total)} done{failed}.", level=level)
    if job.error:
        add_event(session, job.id, f"The end of the job failed: {job.error.partition(chr(10))[0]}", level="error")


class _Cancelled(Exception):
    """A person took the job back while it ran."""


class WorkerLost(RuntimeError):
    """An item took its worker down each time it was tried."""

    def __init__(self, starts: int) -> None:
        super().__init__(
            f"Found {starts} starts of this item that ended with the worker; expected it to end by itself. "
            "Look for too little memory, or try the item on another machine."
        )


def _refuse_cancelled(session: Session, job: Job) -> None:
    """Raise where the job was cancelled since it was read, though it may have been taken up again."""
    status, attempt = session.execute(select(Job.status, Job.attempt).where(Job.id == job.id)).one()
    if status == "cancelled" or attempt != job.attempt:
        raise _Cancelled


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
