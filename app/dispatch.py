"""Decide what this worker takes up next, and when it lets go of what it has."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from voxelight.app.metrics import TAKEN
from voxelight.app.presence import Presence, find_memory
from voxelight.app.settings import Settings
from voxelight.storage.leases import Lease, give_back, has_others, list_alike, list_candidates, return_starts, take
from voxelight.storage.schema import QueueEntry, Run
from voxelight.storage.stores import Stores

CONCURRENCY = {"gpu": 1, "cpu": 1}  # jobs at a time in one process
_END_S = 5.0  # for work that was told to let go, to notice
_log = logging.getLogger(__name__)


class Dispatch:
    """Takes work from the queues while there is room, and knows what is being worked on.

    Parameters
    ----------
    stores, settings : of the installation
    presence : of this worker
    begin : starts the work of a lease in a thread of its own; that calls `end` when it is over
    """

    def __init__(self, stores: Stores, settings: Settings, presence: Presence, begin: Callable[[Lease], None]) -> None:
        self._stores, self._settings, self._presence, self._begin = stores, settings, presence, begin
        self._at_work: dict[str, tuple[Lease, float]] = {}  # ticket -> lease, since when
        self._over: list[Lease] = []  # to be given back, where they did not come to their end
        self._next: list[Lease] = []  # taken up beside others, to be begun before anything else
        self._first_seen: dict[int, float] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatch", daemon=True)
        self.draining = threading.Event()
        self.abandoned = threading.Event()

    @property
    def idle_queues(self) -> list[str]:
        """Queues on which this worker could begin something."""
        return [queue for queue in self._presence.facts.queues if self._has_room(queue)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take work up while the block runs; at its end let what runs come to an end, or to a place to be left at."""
        self._thread.start()
        try:
            yield
        finally:
            self.draining.set()
            self._presence.drain()
            self._wake.set()
            self._thread.join()
            self._wait_for_end(self._settings.grace_s)
            self.abandoned.set()
            self._wait_for_end(_END_S)

    def find(self, ticket: str) -> Lease | None:
        """Return the lease of a ticket, where this process took it."""
        found = self._at_work.get(ticket)
        return found[0] if found else None

    def end(self, lease: Lease) -> None:
        """Note that the work of a lease is over here."""
        with self._lock:
            self._at_work.pop(lease.ticket, None)
            self._over.append(lease)
        self._wake.set()

    def must_leave(self, lease: Lease) -> bool:
        """Whether a job is to be left between two batches: the worker stops, or another owner has waited for long."""
        if self.draining.is_set():
            return True
        with self._lock:
            found = self._at_work.get(lease.ticket)
        if found is None or time.monotonic() - found[1] < self._settings.turn_s:
            return False
        with self._stores.sessions() as session:
            return has_others(session, lease, find_memory(lease.queue, self._presence.facts))

    def leave(self, lease: Lease) -> None:
        """Let another worker, or this one at its next turn, go on with a job."""
        why = "stops" if self.draining.is_set() else "makes room for others"
        with self._stores.sessions.begin() as session:
            give_back(session, lease, f"Worker {self._presence.name} {why}; what is left waits for the next.")

    def take_alike(self, lease: Lease) -> Lease | None:
        """Take up another entry whose items fit into a batch of this one; it is begun as soon as there is room."""
        if self.draining.is_set() or lease.alike == "":
            return None
        with self._stores.sessions() as session:
            waiting = list_alike(session, lease, 1)
        taken = self._take(waiting[0].number) if waiting else None
        if taken is not None:
            with self._lock:
                self._next.append(taken)
        return taken

    def forget(self) -> list[Lease]:
        """Drop what was taken up and not begun, and return it: others have it."""
        with self._lock:
            dropped, self._next = self._next, []
        return dropped

    def _run(self) -> None:
        while not self.draining.is_set():
            began = False
            try:
                self._settle()
                for queue in self.idle_queues:
                    began = self._fill(queue) or began
            except SQLAlchemyError as problem:
                _log.warning("The queues could not be looked at: %s", problem)
            except Exception:  # a worker outlives whatever it meets
                _log.exception("Nothing could be taken up")
            if not began:
                self._wake.wait(self._settings.poll_s)
            self._wake.clear()

    def _settle(self) -> None:
        """Give back what was left before its end, for want of a database for one; what ended is not there any more."""
        while self._over:
            with self._stores.sessions.begin() as session:
                if give_back(session, self._over[0]):
                    return_starts(session, Run.job_id == self._over[0].job_id)
            self._over.pop(0)

    def _fill(self, queue: str) -> bool:
        lease = self._find_begun(queue) or self._choose(queue)
        if lease is None:
            return False
        with self._lock:
            self._at_work[lease.ticket] = lease, time.monotonic()
        try:
            self._begin(lease)
            TAKEN.labels(queue).inc()
        except Exception:
            self.end(lease)
            raise
        return True

    def _find_begun(self, queue: str) -> Lease | None:
        with self._lock:
            found = next((lease for lease in self._next if lease.queue == queue), None)
            if found is not None:
                self._next.remove(found)
        return found

    def _choose(self, queue: str) -> Lease | None:
        memory = find_memory(queue, self._presence.facts)
        with self._stores.sessions() as session:
            waiting = list_candidates(session, queue, memory)
        for entry in self._order(queue, waiting):
            lease = self._take(entry.number)
            if lease is not None:
                return lease
        return None

    def _order(self, queue: str, waiting: Sequence[QueueEntry]) -> Iterator[QueueEntry]:
        """Yield what may be taken up now: not what is still at work here, nor what a warm worker is about to take."""
        now, busy = time.monotonic(), self._list_busy()
        seen = {entry.number: self._first_seen.get(entry.number, now) for entry in waiting}
        self._first_seen = {number: at for number, at in self._first_seen.items() if now - at < 60} | seen
        for entry in waiting:
            waited = now - seen[entry.number]
            if (entry.job_id, entry.action_id) in busy:
                continue
            if waited < self._settings.head_start_s and self._is_warm_elsewhere(queue, entry.recipe):
                continue
            yield entry

    def _is_warm_elsewhere(self, queue: str, recipe: str) -> bool:
        if recipe in self._presence.warm:
            return False
        return any(recipe in row.warm and queue in row.idle and row.state == "running" for row in self._presence.others)

    def _list_busy(self) -> set[tuple[uuid.UUID, uuid.UUID | None]]:
        with self._lock:
            leases = [lease for lease, _ in self._at_work.values()]
        return {(lease.job_id, lease.action_id) for lease in leases}

    def _take(self, number: int) -> Lease | None:
        me = self._presence.me
        if me is None or self.draining.is_set():
            return None
        with self._stores.sessions.begin() as session:
            return take(session, me, number)

    def _has_room(self, queue: str) -> bool:
        with self._lock:
            working = sum(lease.queue == queue for lease, _ in self._at_work.values())
        return working < CONCURRENCY[queue]

    def _wait_for_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._at_work and time.monotonic() < deadline:
            self._wake.wait(0.05)
            self._wake.clear()
