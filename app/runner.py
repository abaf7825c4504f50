"""Do the steps of a job: which items are due, do one batch, close. Knows nothing of the engine that calls it."""

import logging
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from functools import partial

from sqlalchemy import and_, or_, select, update
from sqlalchemy.exc import InterfaceError, OperationalError

from voxelight.app.metrics import ITEM_SECONDS, ITEMS, MIXED
from voxelight.app.patience import Outages
from voxelight.app.pipelines import OpenPipeline, find_pipeline
from voxelight.app.pipelines.inputs import ask_consent_for
from voxelight.app.runs import Cancelled, note_end, read_job, refuse_cancelled, select_runs
from voxelight.app.services import Services
from voxelight.app.traces import span
from voxelight.app.verbs.submission import say_items
from voxelight.storage.joblog import add_event
from voxelight.storage.leases import Fenced, Lease, fence, finish
from voxelight.storage.queries import find_row
from voxelight.storage.results import (
    Outcome,
    count_runs,
    forgive_starts,
    record_failure,
    record_job,
    record_run,
    release_runs,
    return_runs,
)
from voxelight.storage.schema import Job, Run, utc_now
from voxelight.storage.stores import Stores

_log = logging.getLogger(__name__)
_LOOK_S = 0.1  # between two looks whether a job goes on; nothing is written for one that does not
DUE = ("pending", "running")  # what a worker left running is done again, what failed is not


class Runner:
    """Runs items with the pipelines of their jobs kept open, so that inputs are read once.

    Parameters
    ----------
    services : the installation to work for
    draining : set when this worker is to stop after the batch that it is at
    abandoned : set when it is to stop now
    take_alike : takes up another job whose items fit into a batch of this one, where one waits
    """

    def __init__(
        self,
        services: Services,
        draining: threading.Event | None = None,
        abandoned: threading.Event | None = None,
        take_alike: Callable[[Lease], Lease | None] = lambda _: None,
    ) -> None:
        self._shared = services.stores
        self._vectors = services.vectors
        self._settings = services.settings
        self._draining, self._abandoned = draining or threading.Event(), abandoned or threading.Event()
        self._take_alike = take_alike
        self._open: dict[uuid.UUID, OpenPipeline] = {}
        self._held: dict[uuid.UUID, tuple[Lease, Stores]] = {}
        self._looked: dict[uuid.UUID, float] = {}
        self._outages = Outages(self._settings.patience_s)

    def hold(self, lease: Lease) -> None:
        """Write what comes out of a job under a lease from now on: where it holds no more, nothing is written."""
        self._held[lease.job_id] = lease, fence(self._shared, lease)

    def drop(self, lease: Lease) -> None:
        """Forget a lease and what was opened for its job."""
        self._held.pop(lease.job_id, None)
        self._open.pop(lease.job_id, None)
        self._looked.pop(lease.job_id, None)
        self._outages.forget(lease.job_id)

    def _stores_of(self, job_id: uuid.UUID) -> Stores:
        return self._held[job_id][1] if job_id in self._held else self._shared

    def list_batches(self, job_id: uuid.UUID) -> list[list[str]]:
        """Mark a job as running and return the ids of its unfinished runs, in batches."""
        with self._stores_of(job_id).sessions.begin() as session:
            job = find_row(session, Job, job_id)
            if job.status == "cancelled":
                return []
            job.status, job.started_at = "running", job.started_at or utc_now()
            due = session.scalars(
                select(Run.id).where(Run.job_id == job_id, Run.status.in_(DUE)).order_by(Run.position)
            ).all()
            who = self._held[job_id][0].worker if job_id in self._held else socket.gethostname()
            add_event(session, job_id, f"Taken up by {who}: {say_items(len(due))} to do.")
            size = find_pipeline(job.kind).step_size
            return [[str(run_id) for run_id in due[start : start + size]] for start in range(0, len(due), size)]

    def run_batch(self, job_id: uuid.UUID, run_ids: list[str]) -> int:
        """Do the items of one step that are not done yet, and return how many were done now.

        As many as the pipeline takes at once are done together. An item that was started before is done by itself: it
        may be the one that took its worker down.
        """
        with self._shared.sessions() as session:
            job = read_job(session, job_id)
        due = [uuid.UUID(run_id) for run_id in run_ids]
        waiting, done, runs = due, 0, list[Run]()
        try:
            while waiting and not self._draining.is_set():
                ahead = self._open[job_id].at_once if job_id in self._open else 1
                runs = self._claim(job, waiting[:1], waiting[1:ahead])
                if runs:
                    done += self._start(job, runs, waiting[1:])
                waiting = [run_id for run_id in waiting[1:] if run_id not in {run.id for run in runs}]
        except Cancelled:
            release_runs(self._stores_of(job_id), due)
            self._open.pop(job_id, None)
        except _Leaving:
            return_runs(self._stores_of(job_id), due)
        except Fenced:
            # This worker lives, so no item took it down; what the next one began of them stays counted.
            forgive_starts(self._shared, [run.id for run in runs if run.job_id == job_id])
            raise
        return done

    def close(self, job_id: uuid.UUID) -> str:
        """Make what belongs to the job as a whole, and give the job its end."""
        error, stores = "", self._stores_of(job_id)
        with stores.sessions.begin() as session:  # one that commits: files are written only while the job is ours
            job = read_job(session, job_id)
            done = select_runs().where(Run.job_id == job_id, Run.status == "done").order_by(Run.position)
            runs = list(session.scalars(done))  # in their order: a sheet does not depend on which one ended first
        try:
            if runs and job.status != "cancelled":
                record_job(stores, job_id, self._find_open(job).finish(runs))
        except _LET_GO:
            raise
        except Exception as problem:  # a worker outlives whatever an item or a job meets
            if self._outages.wait_for(stores, job_id, None, problem, partial(self._go_on, job)):
                return self.close(job_id)
            error = f"{type(problem).__name__}: {problem}\n{traceback.format_exc()}"
        with stores.sessions.begin() as session:
            job = find_row(session, Job, job_id)
            if job.status != "cancelled":
                job.status = "failed" if error or job.failed else "done" if job.done == job.total else "cancelled"
                job.error, job.finished_at = error, utc_now()
                note_end(session, job)
            if job_id in self._held:
                finish(session, self._held[job_id][0])
        self._open.pop(job_id, None)
        return job.status

    def fail(self, job_id: uuid.UUID, problem: Exception) -> None:
        """End a job that can't even be begun or closed."""
        with self._stores_of(job_id).sessions.begin() as session:
            job = find_row(session, Job, job_id)
            left = update(Run).where(Run.job_id == job_id, Run.status.in_(DUE))
            said = {"error_class": type(problem).__name__, "error_message": str(problem), "finished_at": utc_now()}
            session.execute(left.values(status="failed", **said))
            count_runs(session, job)
            job.status, job.finished_at = "failed", utc_now()
            job.error = f"{type(problem).__name__}: {problem}\n{traceback.format_exc()}"
            note_end(session, job)
            finish(session, self._held[job_id][0])

    def _start(self, job: Job, runs: list[Run], waiting: list[uuid.UUID]) -> int:
        """Open the pipeline for runs that were claimed, claim what else it takes beside them, and do them."""
        opened = self._open_or_fail(job, runs)
        if opened is None:
            return 0
        if runs[0].attempts == 1 and opened.at_once > 1:
            if len(runs) == 1:
                runs += self._claim(job, [], waiting[: opened.at_once - 1])
            runs += self._borrow(job, opened.at_once - len(runs))
        try:
            return self._do(runs, partial(self._go_on, job))
        except _LET_GO:
            for run in runs:
                if run.job_id != job.id:
                    self._return(run)
            raise

    def _open_or_fail(self, job: Job, runs: list[Run]) -> OpenPipeline | None:
        """Open the pipeline of a job; where it can't be opened, the runs fail."""
        first = runs[0]
        try:
            if first.attempts > self._settings.max_attempts:
                raise WorkerLost(first.attempts - 1)
            return self._find_open(job)
        except _LET_GO:
            raise
        except Exception as problem:  # a worker outlives whatever an item or a job meets
            if self._outages.wait_for(self._stores_of(job.id), job.id, first.id, problem, partial(self._go_on, job)):
                return self._open_or_fail(job, runs)
            for run in runs:
                self._record(run, problem)
            return None

    def _borrow(self, job: Job, room: int) -> list[Run]:
        """Fill a batch up with items of other jobs that ask for the same; each of them is closed at its own turn."""
        held = self._held.get(job.id)
        found: list[Run] = []
        while held and room > len(found) and (lease := self._take_alike(held[0])) is not None:
            self.hold(lease)
            try:
                with self._shared.sessions() as session:
                    other = read_job(session, lease.job_id)
                batches = self.list_batches(other.id)
                self._find_open(other)
                due = [uuid.UUID(run_id) for batch in batches for run_id in batch]
                taken = self._claim(other, [], due[: room - len(found)])
            except Exception as problem:  # what is wrong with it is found out again, and noted, at its own turn
                _log.info("%s is not done beside another: %s", lease.workflow_id, problem)
                continue
            found += taken
            MIXED.labels(job.kind).inc(len(taken))
        return found

    def _return(self, run: Run) -> None:
        """Leave an item of another job for that job's turn."""
        try:
            release_runs(self._stores_of(run.job_id), [run.id])
            return_runs(self._stores_of(run.job_id), [run.id])
        except Fenced:
            _log.info("%s is with another worker by now.", run.item_key)

    def _run(self, runs: list[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Do runs by the pipelines of their jobs."""
        first, opened = runs[0], self._open
        mix = find_pipeline(first.job.kind).mix
        if mix is None or all(run.job_id == first.job_id for run in runs):
            yield from opened[first.job_id].run_items(runs, go_on)
            return
        yield from mix([(opened[run.job_id], run) for run in runs], go_on)

    def _do(self, runs: list[Run], go_on: Callable[[], None]) -> int:
        """Do runs together; where that fails, one by one, so that a bad item fails none beside it."""
        left, own = {run.id: run for run in runs}, runs[0].job_id
        began, failed, again = time.monotonic(), False, False
        try:
            with span("pipeline", kind=runs[0].job.kind, recipe=runs[0].job.recipe, items=len(runs)):
                for run, outcome in self._run(runs, go_on):
                    if self._keep(run, outcome, own):
                        del left[run.id]
        except _LET_GO:
            raise
        except Exception as problem:
            failed = True
            again = len(runs) > 1 or self._outages.wait_for(self._stores_of(own), own, runs[0].id, problem, go_on)
            if not again:
                self._record(runs[0], problem)
        finally:
            self._note_done([run for run in runs if run.id not in left], time.monotonic() - began)
        # Outside the handler, which would keep what the failed attempt holds on the card.
        for run in left.values():
            if run.job_id != own:
                self._return(run)
        alone = [run for run in left.values() if run.job_id == own] if failed and again else []
        return len(runs) - len(left) + sum(self._do([run], go_on) for run in alone)

    def _keep(self, run: Run, outcome: Outcome, own: uuid.UUID) -> bool:
        """Write down what a run gave; that another job, done beside this one, was taken back is no matter of this."""
        try:
            if run.job_id != own:
                self._refuse_lost(run.job)
            record_run(self._stores_of(run.job_id), run.id, outcome)
        except (Cancelled, Fenced):
            if run.job_id == own:
                raise
            return False
        return True

    def _record(self, run: Run, problem: Exception) -> None:
        kind = type(problem).__name__
        ITEMS.labels(run.job.kind, "failed").inc()
        _log.warning("%s failed: %s", run.item_key, kind, extra={"facts": {"run": str(run.id)}})
        stores = self._stores_of(run.job_id)
        record_failure(stores, run.id, kind, str(problem), traceback.format_exc(limit=-20))
        with stores.sessions.begin() as session:
            add_event(session, run.job_id, f"{run.item_key} failed: {kind}: {problem}", run.id, "error")

    def _note_done(self, runs: list[Run], seconds: float) -> None:
        """Keep what items took: each its share of what was done together."""
        if not runs:
            return
        each = seconds / len(runs)
        for job_id in dict.fromkeys(run.job_id for run in runs):
            some = [run for run in runs if run.job_id == job_id]
            try:
                with self._stores_of(job_id).sessions.begin() as session:
                    session.execute(update(Run).where(Run.id.in_([run.id for run in some])).values(seconds=each))
                    for run in some:
                        add_event(session, job_id, f"{run.item_key} done in {each:.1f} s.", run.id)
            except Fenced:
                if job_id == runs[0].job_id:
                    raise
        for run in runs:
            ITEMS.labels(run.job.kind, "done").inc()
            ITEM_SECONDS.labels(run.job.kind, run.job.recipe).observe(each)
            _log.info("%s done in %.1f s", run.item_key, each, extra={"facts": {"run": str(run.id)}})
            self._embed(run)

    def _embed(self, run: Run) -> None:
        """Make what a run gave findable by likeness; that it can't be is no failure of the run."""
        try:
            self._vectors.embed_run(run.id)
        except _LET_GO:
            raise
        except Exception as problem:  # a worker outlives whatever an item or a job meets
            with self._stores_of(run.job_id).sessions.begin() as session:
                message = f"{run.item_key} can't be found by likeness: {type(problem).__name__}: {problem}"
                add_event(session, run.job_id, message, run.id, "warning")

    def _go_on(self, job: Job) -> None:
        if self._abandoned.is_set() or (self._draining.is_set() and find_pipeline(job.kind).pauses):
            raise _Leaving
        if time.monotonic() - self._looked.get(job.id, 0.0) < _LOOK_S:
            return
        self._looked[job.id] = time.monotonic()
        self._refuse_lost(job)

    def _refuse_lost(self, job: Job) -> None:
        with self._stores_of(job.id).sessions.begin() as session:  # one that commits: it raises where the job is gone
            refuse_cancelled(session, job)

    def _claim(self, job: Job, first: list[uuid.UUID], beside: list[uuid.UUID]) -> list[Run]:
        """Mark runs as started, in a transaction of their own, and return those that were neither done nor refused.

        Parameters
        ----------
        job : of the runs
        first : at most one run, whatever became of it before
        beside : runs to do with it; those that were started before are left out, and all where the first one was

        Raises
        ------
        Cancelled
            The job was cancelled.
        """
        with self._stores_of(job.id).sessions.begin() as session:
            refuse_cancelled(session, job)
            if beside and first and session.scalar(select(Run.attempts).where(Run.id == first[0])):
                beside = []
            fresh = and_(Run.id.in_(beside), Run.attempts == 0)
            due = update(Run).where(or_(Run.id.in_(first), fresh), Run.status.in_(DUE))
            started = {"status": "running", "attempts": Run.attempts + 1, "started_at": utc_now(), "finished_at": None}
            claimed = session.scalars(due.values(**started).returning(Run.id)).all()
            runs = list(session.scalars(select_runs().where(Run.id.in_(claimed)).order_by(Run.position)))
            for run in runs:
                again = f", start {run.attempts}" if run.attempts > 1 else ""
                add_event(session, run.job_id, f"{run.item_key} started{again}.", run.id)
            return runs

    def _find_open(self, job: Job) -> OpenPipeline:
        ask_consent_for(job.kind, job.dataset)  # which may have been withdrawn since the job was submitted
        if job.id not in self._open:
            stores = self._stores_of(job.id)
            self._open[job.id] = find_pipeline(job.kind).open(stores, job, self._settings.device)
        return self._open[job.id]


class _Leaving(Exception):
    """The worker stops; another goes on."""


# A database that does not answer is no fault of an item either: it is begun again, by whoever takes the job up.
_LET_GO = (Cancelled, _Leaving, Fenced, OperationalError, InterfaceError)


class WorkerLost(RuntimeError):
    """An item took its worker down each time it was tried."""

    def __init__(self, starts: int) -> None:
        super().__init__(
            f"Found {starts} starts of this item that ended with the worker; expected it to end by itself. "
            "Look for too little memory, or try the item on another machine."
        )
