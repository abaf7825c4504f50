"""Run jobs durably: a workflow is a job, a step is a batch of items; what a killed worker left, another finishes."""

import fcntl
import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dbos import DBOS, DBOSPortableJSONSerializer, SetWorkflowID
from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError

from voxelight.app.actions import run_action as do_action
from voxelight.app.dispatch import Dispatch
from voxelight.app.logs import about
from voxelight.app.presence import GIB, Presence, look_around
from voxelight.app.queue import ACTION_WORKFLOW, APPLICATION, APPLICATION_VERSION, WORKFLOW
from voxelight.app.runner import Runner
from voxelight.app.services import Services
from voxelight.app.traces import span
from voxelight.app.warm import WARM
from voxelight.models.errors import Conflict
from voxelight.storage.leases import Fenced, Lease, fence, finish
from voxelight.storage.schema import Job

_SHELLS = 1000
_LEFT = "left to another"
_log = logging.getLogger(__name__)


@contextmanager
def working(services: Services, queues: Sequence[str] = ("cpu", "gpu"), name: str = "embedded") -> Iterator[Presence]:
    """Work on queues in threads of this process until the block is left, and give how it stands among the others.

    Parameters
    ----------
    services : the installation to work for
    queues : names of queues, of `dispatch.CONCURRENCY`
    name : of this worker on this machine

    Raises
    ------
    Conflict
        A living process works under the name.
    """
    with _claim(services.settings.home / "workers", name) as place:
        worker = _Worker(services, _full_name(name), place, queues)
        with worker.working():
            yield worker.presence


def claim_name(services: Services, prefix: str) -> str:
    """Return the first name `prefix-N` that no living process of this machine works under."""
    folder = services.settings.home / "workers"
    for number in range(_SHELLS):
        try:
            with _claim(folder, f"{prefix}-{number}"):
                return f"{prefix}-{number}"
        except Conflict:
            continue
    raise Conflict(f"{_SHELLS} workers", "a free name", "Stop some of them.")


class _Worker:
    """What one process does for the queues: presence, dispatch, and the engine's workflows between them."""

    def __init__(self, services: Services, name: str, place: str, queues: Sequence[str]) -> None:
        self._services = services
        if services.settings.warm_gib is not None:
            WARM.budget_bytes = int(services.settings.warm_gib * GIB)
        self.presence = Presence(
            services.settings, name, look_around(place, queues, services.settings), self._drop, self._describe
        )
        self._dispatch = Dispatch(services.stores, services.settings, self.presence, self._begin)
        self._runner = Runner(services, self._dispatch.draining, self._dispatch.abandoned, self._dispatch.take_alike)
        self._workflows: dict[str, Callable[[str, str], str]] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        self.presence.begin()
        try:
            with self._engine(), self._dispatch.running():
                yield
        finally:
            self.presence.end()

    @contextmanager
    def _engine(self) -> Iterator[None]:
        try:
            self._launch()
            yield
        finally:
            # The engine would tell of a workflow that is cut off at length, as an error of the step that it was in.
            logging.getLogger("dbos").setLevel(logging.CRITICAL)
            DBOS.destroy(destroy_registry=True)

    def _describe(self) -> tuple[dict[str, int], list[str]]:
        return WARM.describe(), self._dispatch.idle_queues

    def _drop(self) -> None:
        for lease in self._dispatch.forget():
            self._runner.drop(lease)

    def _launch(self) -> None:
        _lead_engine_log()
        me = self.presence.me
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": self._services.queue.database_url,
                "application_version": APPLICATION_VERSION,
                # Of each start its own: what is taken up again is decided by leases, not by the engine.
                "executor_id": f"{self.presence.name}#{me.generation if me else 0}",
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "WARNING",
                "notification_listener_polling_interval_sec": 1.0,
            }
        )
        self._register()
        DBOS.listen_queues([])
        DBOS.launch()

    def _register(self) -> None:
        runner = self._runner

        @DBOS.step(name="list_batches")
        def list_batches(job_id: str) -> list[list[str]]:
            return runner.list_batches(uuid.UUID(job_id))

        @DBOS.step(name="run_batch")
        def run_batch(job_id: str, run_ids: list[str]) -> int:
            with span("step", items=len(run_ids)):
                return runner.run_batch(uuid.UUID(job_id), run_ids)

        @DBOS.step(name="close_job")
        def close_job(job_id: str) -> str:
            return runner.close(uuid.UUID(job_id))

        @DBOS.step(name="do_action")
        def do(ticket: str, action_id: str) -> str:
            return self._do_action(ticket, uuid.UUID(action_id))

        def go_through(lease: Lease) -> str:
            job_id = str(lease.job_id)
            for run_ids in list_batches(job_id):
                run_batch(job_id, run_ids)
                if self._dispatch.must_leave(lease):
                    self._dispatch.leave(lease)
                    return _LEFT
            return close_job(job_id)

        @DBOS.workflow(name=WORKFLOW)
        def run_job(_job_id: str, ticket: str) -> str:
            return self._carry_out(ticket, go_through)

        @DBOS.workflow(name=ACTION_WORKFLOW)
        def run_action(action_id: str, ticket: str) -> str:
            return self._carry_out(ticket, lambda _: do(ticket, action_id))

        self._workflows = {WORKFLOW: run_job, ACTION_WORKFLOW: run_action}

    def _begin(self, lease: Lease) -> None:
        """Start the workflow of a lease; that of an earlier part is over, whatever the engine knows of it."""
        if lease.part > 1:
            under_way = DBOS.list_workflows(
                workflow_id_prefix=lease.workflow_id, status=["PENDING", "ENQUEUED"], load_input=False
            )
            for each in under_way:
                if f"{each.workflow_id}.".startswith(f"{lease.workflow_id}."):  # and not of a tenth attempt
                    DBOS.cancel_workflow(each.workflow_id)
        workflow = self._workflows[WORKFLOW if lease.action_id is None else ACTION_WORKFLOW]
        with SetWorkflowID(lease.name):
            DBOS.start_workflow(workflow, str(lease.action_id or lease.job_id), lease.ticket)

    def _carry_out(self, ticket: str, work: Callable[[Lease], str]) -> str:
        """Work under a lease; what another took over meanwhile is dropped."""
        lease = self._dispatch.find(ticket)
        if lease is None:
            return _LEFT
        self._runner.hold(lease)
        try:
            origin = self._find_origin(lease)
            facts = {"job": str(lease.job_id), "worker": self.presence.name, "request": origin.get("request", "")}
            with (
                about(**{name: value for name, value in facts.items() if value}),
                span("job", origin.get("trace", ""), job=str(lease.job_id), part=lease.part, recipe=lease.recipe),
            ):
                return work(lease)
        except Fenced:
            _log.warning("%s is with another worker by now; it is left.", lease.workflow_id)
            return _LEFT
        except (OperationalError, InterfaceError) as problem:
            _log.warning("%s is left for another start: %s", lease.workflow_id, problem)
            return _LEFT
        except Exception as problem:  # a worker outlives whatever a job meets
            _log.exception("%s can't be carried out", lease.workflow_id)
            if lease.action_id is None:
                self._runner.fail(lease.job_id, problem)
            return _LEFT
        finally:
            self._runner.drop(lease)
            self._dispatch.end(lease)

    def _find_origin(self, lease: Lease) -> dict[str, str]:
        """Return which request asked for a job, where one did."""
        with self._services.stores.sessions() as session:
            params = session.scalar(select(Job.params).where(Job.id == lease.job_id)) or {}
        found: dict[str, str] = params.get("origin", {})
        return found

    def _do_action(self, ticket: str, action_id: uuid.UUID) -> str:
        lease = self._dispatch.find(ticket)
        if lease is None:
            raise Fenced
        stores = fence(self._services.stores, lease)
        ended = do_action(replace(self._services, stores=stores), action_id)
        with stores.sessions.begin() as session:
            finish(session, lease)
        return ended


def _full_name(name: str) -> str:
    """Name of a worker among those of all machines."""
    return f"{socket.gethostname()}-{name}"


@contextmanager
def _claim(folder: Path, name: str) -> Iterator[str]:
    """Hold the lock of a name and give what names that lock, on this machine and among others."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{_full_name(name)}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Conflict(
                f"a worker named {name!r}, process {lock.read().strip() or 'unknown'}",
                "one living process of a name on this machine",
                "Stop it, or start this one with another --name.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        file = os.fstat(lock.fileno())
        yield f"{socket.gethostname()}/{file.st_dev}:{file.st_ino}"


class _NotACancellation(logging.Filter):
    """A cancelled job is no error; the engine logs it as one, with a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        raised = record.exc_info[1] if record.exc_info else None
        return "cancelled" not in f"{record.getMessage()} {raised}".lower()


def _lead_engine_log() -> None:
    """Send what the engine logs where this process logs now; its own handler keeps the stream of its first start."""
    logger = logging.getLogger("dbos")
    logger.handlers[:], logger.propagate = logging.getLogger().handlers, False
    if not any(isinstance(each, _NotACancellation) for each in logger.filters):
        logger.addFilter(_NotACancellation())
