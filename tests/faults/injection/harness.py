"""An installation with workers as processes of their own, which are hurt; then the books are looked at."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from injection import workload
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from voxelight.app.books import audit
from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import JobAnswer
from voxelight.app.settings import Settings
from voxelight.storage.schema import Run

OVER = ("done", "failed", "cancelled")


@dataclass
class Row:
    """A line of the table of faults.

    Parameters
    ----------
    fault : what was done
    injected : how often
    recovered : how often everything went on by itself, or with the next worker of the name
    items : that were submitted meanwhile
    done, failed : how they ended
    lost : that did not end
    doubled : that were done twice, or have something twice
    differing : whose result is another than that of an undisturbed run
    differences : what of them differs
    books : what `voxelight doctor --audit` finds
    seconds : from the first fault to the end
    """

    fault: str
    injected: int = 0
    recovered: int = 0
    items: int = 0
    done: int = 0
    failed: int = 0
    lost: int = 0
    doubled: int = 0
    differing: int = 0
    differences: list[str] = field(default_factory=list)
    books: list[str] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sound(self) -> bool:
        return not (self.lost or self.doubled or self.differing or self.books) and self.recovered == self.injected


class Installation:
    """A home with its stores and its workers.

    Parameters
    ----------
    home : folder
    environment : of its workers, beside where the stores are
    settings : of `Settings`, for the harness and the workers alike
    """

    def __init__(self, home: Path, environment: dict[str, str] | None = None, **settings: Any) -> None:
        self.settings = Settings(home=home, poll_s=0.05, **settings)
        told = {name: value for name, value in settings.items() if name in ("database_url", "blobs_url")}
        self._environment = {
            "VOXELIGHT_HOME": str(home),
            "VOXELIGHT_POLL_S": "0.1",
            "OMP_NUM_THREADS": "1",
            "VOXELIGHT_MAX_ATTEMPTS": str(self.settings.max_attempts),
            **{f"VOXELIGHT_{name.upper()}": value for name, value in told.items()},
            **(environment or {}),
        }
        if "blobs_options" in settings:
            self._environment["VOXELIGHT_BLOBS_OPTIONS"] = json.dumps(settings["blobs_options"])
        self.services = open_services(self.settings)
        self.logs = home / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.ended: dict[uuid.UUID, Any] = {}
        self.redone: set[uuid.UUID] = set()

    def start(self, name: str, prefix: Sequence[str] = (), **environment: str) -> "subprocess.Popen[bytes]":
        """Start a worker under a name, which no living one has."""
        command = [*prefix, sys.executable, "-m", "voxelight.app.cli", "worker", "--queue", "cpu", "--name", name]
        with (self.logs / f"{name}.log").open("ab") as log:
            worker = subprocess.Popen(
                command, env=os.environ | self._environment | environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.workers[name] = worker
        return worker

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a worker and see it end."""
        worker = self.workers[name]
        worker.send_signal(number)
        worker.wait(60)

    def submit(self, kinds: Sequence[str], mark: str = "model") -> dict[str, uuid.UUID]:
        """Submit one job of each kind."""
        return {kind: self.services.jobs.submit(workload.request(kind, f"balls-{mark}")).id for kind in kinds}

    def watch(self, job_ids: Sequence[uuid.UUID]) -> list[JobAnswer]:
        """Look at jobs, and note which items have ended; one that has ended must not end again."""
        with self.services.stores.sessions() as session:
            ends = session.execute(select(Run.id, Run.finished_at).where(Run.job_id.in_(job_ids), Run.status == "done"))
            for run, at in ends:
                if self.ended.setdefault(run, at) != at:
                    self.redone.add(run)
        return [self.services.jobs.show(job_id) for job_id in job_ids]

    def wait(
        self,
        job_ids: Sequence[uuid.UUID],
        until: Callable[[JobAnswer], bool] = lambda job: job.status in OVER,
        seconds: float = 120,
        each: Callable[[], None] = lambda: None,
    ) -> bool:
        """Watch until every job is as it should be, and say whether it came to that."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(DBAPIError):  # the database may be what is away
                if all(map(until, self.watch(job_ids))):
                    return True
            each()
            time.sleep(0.05)
        return False

    def close_books(self, row: Row, jobs: dict[uuid.UUID, str], expected: dict[str, Any], allow_failed: int = 0) -> Row:
        """Count how the items of jobs (job -> kind) ended, and compare what they gave."""
        self.watch(list(jobs))
        with self.services.stores.sessions() as session:
            count = select(Run.status, func.count()).where(Run.job_id.in_(jobs)).group_by(Run.status)
            counts: dict[str, int] = dict(session.execute(count).all())
        row.items = sum(counts.values())
        row.done, row.failed = counts.get("done", 0), counts.get("failed", 0)
        row.lost = row.items - row.done - row.failed + max(0, row.failed - allow_failed)
        row.doubled = len(self.redone & self.ended.keys())
        for job, kind in jobs.items():
            if kind in expected and self.services.jobs.show(job).status == "done":
                found = workload.fingerprint(self.services, job)
                differing = [item for item in expected[kind] if found[item] != expected[kind][item]]
                row.differing += len(differing)
                row.differences += [
                    f"{kind} {item}: {name}"
                    for item in differing
                    for name in sorted(found[item].keys() | expected[kind][item].keys())
                    if found[item].get(name) != expected[kind][item].get(name)
                ]
        self.services.sweep(older_than_s=-1)
        row.books = [f"{entry.what}: {entry.found}" for entry in audit(self.services, older_than_s=0, deep=True)]
        return row

    def close(self) -> None:
        """Stop everything."""
        for worker in self.workers.values():
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait(60)
        self.services.close()


@contextmanager
def installed(home: Path, environment: dict[str, str] | None = None, **settings: Any) -> Iterator[Installation]:
    """Give a new installation with what its jobs read, for as long as a block lasts."""
    opened = Installation(home, environment, **settings)
    try:
        workload.fill(opened.services, home / "made")
        yield opened
    finally:
        opened.close()


def run_undisturbed(home: Path, kinds: Sequence[str] = workload.KINDS) -> dict[str, dict[str, dict[str, str]]]:
    """Return what jobs of these kinds give when nothing happens: kind -> item -> what it gave."""
    with installed(home) as place:
        place.start("calm")
        jobs = place.submit(kinds)
        assert place.wait(list(jobs.values()), seconds=300), "an undisturbed run did not end"
        return {kind: workload.fingerprint(place.services, job) for kind, job in jobs.items()}
