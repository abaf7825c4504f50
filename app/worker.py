"""Run jobs durably: a workflow is a job, a step is a batch of items; a killed worker resumes at the unfinished step."""

import fcntl
import logging
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dbos import DBOS, DBOSPortableJSONSerializer

from voxelight.app.actions import run_action as do_action
from voxelight.app.queue import ACTION_WORKFLOW, APPLICATION, APPLICATION_VERSION, WORKFLOW
from voxelight.app.runner import Runner
from voxelight.app.services import Services
from voxelight.models.errors import Conflict

CONCURRENCY = {"gpu": 1, "cpu": 1}  # jobs at a time in one process
_SHELLS = 1000


@contextmanager
def working(services: Services, queues: Sequence[str] = ("cpu", "gpu"), name: str = "embedded") -> Iterator[None]:
    """Work on queues in threads of this process until the block is left.

    Parameters
    ----------
    services : the installation to work for
    queues : names of queues, of `CONCURRENCY`
    name : of this worker on this machine; after a crash, the next worker of the name goes on with what it left

    Raises
    ------
    Conflict
        A living process on this machine works under the name.
    """
    with _claim(services.settings.home / "workers", name):
        try:
            _launch(services, queues, _executor_id(name))
            yield
        finally:
            # A workflow that is cut off stays pending, and the next worker of this name goes on with it. The engine
            # would tell that at length, as an error of the step that it was in.
            logging.getLogger("dbos").setLevel(logging.CRITICAL)
            DBOS.destroy(destroy_registry=True)


def claim_name(services: Services, prefix: str) -> str:
    """Return the first name `prefix-N` that no living process works under; a later shell finishes a dead one's work."""
    folder = services.settings.home / "workers"
    for number in range(_SHELLS):
        try:
            with _claim(folder, f"{prefix}-{number}"):
                return f"{prefix}-{number}"
        except Conflict:
            continue
    raise Conflict(f"{_SHELLS} workers", "a free name", "Stop some of them.")


def _launch(services: Services, queues: Sequence[str], executor_id: str) -> None:
    _quieten_cancellation()
    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": services.queue.database_url,
            "application_version": APPLICATION_VERSION,
            "executor_id": executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 1.0,
        }
    )
    _register(Runner(services))
    _register_actions(services)
    DBOS.listen_queues(list(queues))
    DBOS.launch()
    for queue, concurrency in CONCURRENCY.items():
        DBOS.register_queue(
            queue,
            worker_concurrency=concurrency,
            polling_interval_sec=services.settings.poll_s,
            on_conflict="always_update",
        )


def _register(runner: Runner) -> None:
    @DBOS.step(name="list_batches")
    def list_batches(job_id: str) -> list[list[str]]:
        return runner.list_batches(uuid.UUID(job_id))

    @DBOS.step(name="run_batch")
    def run_batch(job_id: str, run_ids: list[str]) -> int:
        return runner.run_batch(uuid.UUID(job_id), run_ids)

    @DBOS.step(name="close_job")
    def close_job(job_id: str) -> str:
        return runner.close(uuid.UUID(job_id))

    @DBOS.workflow(name=WORKFLOW)
    def run_job(job_id: str) -> str:
        for run_ids in list_batches(job_id):
            run_batch(job_id, run_ids)
        return close_job(job_id)


def _register_actions(services: Services) -> None:
    @DBOS.step(name="do_action")
    def do(action_id: str) -> str:
        return do_action(services, uuid.UUID(action_id))

    @DBOS.workflow(name=ACTION_WORKFLOW)
    def run_action(action_id: str) -> str:
        return do(action_id)


def _executor_id(name: str) -> str:
    """Name of a worker among those of all machines."""
    return f"{socket.gethostname()}-{name}"


@contextmanager
def _claim(folder: Path, name: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{_executor_id(name)}.lock").open("a+") as lock:
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
        yield


class _NotACancellation(logging.Filter):
    """A cancelled job is no error; the engine logs it as one, with a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "cancelled" not in record.getMessage().lower()


def _quieten_cancellation() -> None:
    logger = logging.getLogger("dbos")
    if not any(isinstance(each, _NotACancellation) for each in logger.filters):
        logger.addFilter(_NotACancellation())
