"""Every line of the blob protocol: a crash before it, and another process doing the other half of the protocol there.

The protocol: content goes to a temporary name and is moved, then a row names it in the transaction that ends the item;
a sweep removes what no row names once it is old. Lines are found by running it once under a trace, so a line that is
added is a line that is tried.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from injection.harness import Installation, Row
from sqlalchemy import select

from voxelight.app.books import audit
from voxelight.storage import artifacts, results, stores
from voxelight.storage.database import open_engine, open_sessions
from voxelight.storage.results import Outcome, OutputFile, record_run
from voxelight.storage.schema import Run, Segmentation
from voxelight.storage.stores import Stores

PROTOCOL = frozenset(module.__file__ for module in (artifacts, stores, results))
Stepped = Callable[[Callable[[], None], int, Callable[[], None]], int]
_DAY_S, _OLD_S = 86_400.0, 200_000.0
_CRASHED = 77


def count_lines(work: Callable[[], None], at: int = 0, then: Callable[[], None] = lambda: None) -> int:
    """Run something, call `then` before its line `at` of the protocol, and return how many such lines it took."""
    seen = 0

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in PROTOCOL:
            return None
        if what == "line":
            seen += 1
            if seen == at:
                sys.settrace(None)
                then()
                sys.settrace(trace)
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return seen


def crash_at(work: Callable[[], None], line: int) -> bool:
    """Run something in a process of its own that ends before a line, without any clearing up; say whether it did."""
    child = os.fork()
    if child == 0:
        try:
            count_lines(work, line, lambda: os._exit(_CRASHED))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == _CRASHED


class Beside:
    """Something in a process of its own, which begins when it is told to, and waits where it must.

    The process is there before: SQLite takes the locks of a connection that is forked for its own.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        told, self._tell = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._tell)
            status = 1
            try:
                if os.read(told, 1):
                    work()
                status = 0
            finally:
                os._exit(status)
        os.close(told)

    def begin(self) -> None:
        """Let it begin."""
        os.write(self._tell, b"!")

    def leave(self) -> None:
        """Let it end, begun or not."""
        os.close(self._tell)

    def wait(self, seconds: float) -> bool | None:
        """Say whether it ended well; None where it has not ended yet, since it waits for a lock."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            child, status = os.waitpid(self._child, os.WNOHANG)
            if child:
                return status == 0
            time.sleep(0.005)
        return None


class Protocol:
    """The two halves of the protocol, over a job whose items are written down by hand.

    Parameters
    ----------
    place : installation with a job of several items that no worker works on
    """

    def __init__(self, place: Installation, job: Any) -> None:
        self._place, self._job = place, job
        self._number = 0

    def open(self) -> Stores:
        """Open the stores anew, as another process has them."""
        place = self._place.settings
        engine = open_engine(place.resolved_database_url)
        blobs = artifacts.BlobStore(place.resolved_blobs_url, place.spool)
        return replace(self._place.services.stores, engine=engine, sessions=open_sessions(engine), blobs=blobs)

    def make(self) -> tuple[Any, Outcome]:
        """Return an item that is due again, and an outcome that nobody has stored before."""
        self._number += 1
        with self._place.services.stores.sessions.begin() as session:
            run = session.scalars(select(Run).where(Run.job_id == self._job).order_by(Run.position)).first()
            results._forget(session, self._job, run.id)
            run.status = "running"
            session.flush()
            results.count_runs(session, run.job)
        files = tuple(
            OutputFile(role, f"{role}.bin", "application/octet-stream", f"{role} {self._number}".encode())
            for role in ("label_map", "overlay")
        )
        return run.id, Outcome(files, label_names={1: "front"}, volumes_ml={"front": 1.0})

    def write(self, run: Any, outcome: Outcome) -> None:
        """Store an item, as a worker does."""
        opened = self.open()
        record_run(opened, run, outcome)
        opened.engine.dispose()

    def sweep(self, older_than_s: float = _DAY_S) -> None:
        """Reclaim what is old, as `voxelight storage sweep` does."""
        opened = self.open()
        stores.sweep(opened, older_than_s)
        opened.engine.dispose()

    def leave_orphans(self, outcome: Outcome) -> None:
        """Store the content long ago without a row, as a crash leaves it."""
        root = Path(self._place.settings.resolved_blobs_url)
        for file in outcome.files:
            sha256 = self._place.services.stores.blobs.put_bytes(file.content).sha256
            self._age(root / "sha256" / sha256[:2] / sha256)
        temporary = root / "tmp" / f"left-{self._number}"
        temporary.parent.mkdir(exist_ok=True)
        temporary.write_bytes(b"half")
        self._age(temporary)

    def list_problems(self, run: Any, done: bool) -> list[str]:
        """Return what is wrong now, with what no row names yet left aside."""
        found = [f"{each.what}: {each.found}" for each in audit(self._place.services, _DAY_S, deep=True)]
        with self._place.services.stores.sessions() as session:
            rows = len(session.scalars(select(Segmentation.id).where(Segmentation.run_id == run)).all())
            status = session.get_one(Run, run).status
        if (status == "done" and rows != 1) or (done and status != "done"):
            found.append(f"{rows} rows of an item that is {status}")
        return found

    @staticmethod
    def _age(path: Path) -> None:
        then = time.time() - _OLD_S
        os.utime(path, (then, then))


def interleave(work: Callable[[], None], line: int, other: Callable[[], None]) -> list[str] | None:
    """Run something, and another thing beside it from one of its lines on; None where it has no such line."""
    beside = Beside(other)
    ended: list[bool | None] = []

    def begin() -> None:
        beside.begin()
        ended.append(beside.wait(0.3))

    count_lines(work, line, begin)
    beside.leave()
    if not ended:
        beside.wait(60)
        return None
    if ended[0] is None:
        ended[0] = beside.wait(60)
    return [] if ended[0] else ["what ran beside it failed"]


def crash_in_write(place: Installation, protocol: Protocol, orphans: bool, steps: int = 1) -> Row:
    """Crash before each line of a write; then do it again, and sweep."""
    row = Row(f"crash between two lines of a write{' of content that is there already' if orphans else ''}")
    line, began = 1, time.monotonic()
    while True:
        run, outcome = protocol.make()
        if orphans:
            protocol.leave_orphans(outcome)
        if not crash_at(lambda run=run, outcome=outcome: protocol.write(run, outcome), line):
            break
        row.injected += 1
        problems = protocol.list_problems(run, done=False) if not orphans else []
        protocol.write(run, outcome)
        protocol.sweep(older_than_s=-1)
        _settle(place, protocol, run, row, problems)
        line += steps
    row.seconds = time.monotonic() - began
    return row


def crash_in_sweep(place: Installation, protocol: Protocol, steps: int = 1) -> Row:
    """Crash before each line of a sweep; what a row names stays, and the next sweep reclaims the rest."""
    row, line, began = Row("crash between two lines of a sweep"), 1, time.monotonic()
    run, outcome = protocol.make()
    protocol.write(run, outcome)
    while True:
        other = Outcome((OutputFile("label_map", "lost.bin", "text/plain", f"lost {line}".encode()),))
        protocol.leave_orphans(other)
        if not crash_at(protocol.sweep, line):
            break
        row.injected += 1
        problems = [problem for problem in protocol.list_problems(run, done=True) if "no row" not in problem]
        protocol.sweep()
        _settle(place, protocol, run, row, problems, older_than_s=_DAY_S)
        line += steps
    row.seconds = time.monotonic() - began
    return row


def sweep_inside_write(place: Installation, protocol: Protocol, orphans: bool, steps: int = 1) -> Row:
    """Let a whole sweep run before each line of a write."""
    row = Row(f"a sweep between two lines of a write{' of content that is there already' if orphans else ''}")
    line, began = 1, time.monotonic()
    while True:
        run, outcome = protocol.make()
        if orphans:
            protocol.leave_orphans(outcome)
        problems = interleave(lambda run=run, outcome=outcome: protocol.write(run, outcome), line, protocol.sweep)
        if problems is None:
            break
        row.injected += 1
        _settle(place, protocol, run, row, problems, older_than_s=_DAY_S)
        protocol.sweep(older_than_s=-1)
        line += steps
    row.seconds = time.monotonic() - began
    return row


def write_inside_sweep(place: Installation, protocol: Protocol, steps: int = 1) -> Row:
    """Let a whole write, of content that the sweep is about to reclaim, run before each line of the sweep."""
    row, line, began = Row("a write between two lines of a sweep"), 1, time.monotonic()
    while True:
        run, outcome = protocol.make()
        protocol.leave_orphans(outcome)
        problems = interleave(protocol.sweep, line, lambda run=run, outcome=outcome: protocol.write(run, outcome))
        if problems is None:
            break
        row.injected += 1
        _settle(place, protocol, run, row, problems, older_than_s=_DAY_S)
        protocol.sweep(older_than_s=-1)
        line += steps
    row.seconds = time.monotonic() - began
    return row


def _settle(
    place: Installation, protocol: Protocol, run: Any, row: Row, problems: list[str], older_than_s: float = 0.0
) -> None:
    """Count an item whose write was disturbed and done again."""
    problems = problems + protocol.list_problems(run, done=True)
    problems += [f"{each.what}: {each.found}" for each in audit(place.services, older_than_s, deep=True)]
    row.items += 1
    row.done += not problems
    row.recovered += not problems
    row.books += [problem for problem in problems if problem not in row.books][:3]


def _of_new(work: Callable[..., Row], orphans: bool) -> Callable[[Installation, Protocol, int], Row]:
    return lambda place, protocol, steps: work(place, protocol, orphans, steps)


# What may happen between two lines: to an installation, its protocol, at every line whose number is a multiple.
KINDS: dict[str, Callable[[Installation, Protocol, int], Row]] = {
    "crash in a write": _of_new(crash_in_write, False),
    "crash in a write of what is there": _of_new(crash_in_write, True),
    "crash in a sweep": crash_in_sweep,
    "sweep in a write": _of_new(sweep_inside_write, False),
    "sweep in a write of what is there": _of_new(sweep_inside_write, True),
    "write in a sweep": write_inside_sweep,
}


def walk_through(place: Installation, _: Any, kind: str, steps: int = 1) -> Row:
    """Let one kind of thing happen between all lines."""
    return KINDS[kind](place, Protocol(place, place.submit(["segment"])["segment"]), steps)
