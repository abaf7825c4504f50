"""A worker among the others: it signs in, beats from a thread of its own, and gives up those that are silent."""

import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from voxelight.app.settings import Settings
from voxelight.models.errors import Conflict
from voxelight.storage.database import open_engine, open_sessions
from voxelight.storage.leases import explain_waiting, release
from voxelight.storage.schema import Worker
from voxelight.storage.workers import (
    ALIVE,
    BEAT_S,
    Facts,
    Me,
    Watch,
    beat,
    bury,
    count_beats,
    list_workers,
    refuse_second,
    set_state,
    sign_in,
)

GIB = 1 << 30
_LOOK_S = BEAT_S / 2
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_log = logging.getLogger(__name__)


class Presence:
    """One worker's row, kept fresh, and its look at those of others.

    Parameters
    ----------
    settings : of the installation
    name : of the worker among those of all machines
    facts : of this process
    on_lost : called from the thread when others gave this worker up, before it signs in again
    describe : what is warm, recipe -> bytes, and the queues on which something could be begun
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        facts: Facts,
        on_lost: Callable[[], None],
        describe: Callable[[], tuple[dict[str, int], Sequence[str]]],
    ) -> None:
        self._settings, self.name, self.facts = settings, name, facts
        self._on_lost, self._describe = on_lost, describe
        # Connections of its own: work never waits for a beat, and a beat never for work.
        self._engine = open_engine(settings.resolved_database_url)
        self._sessions = open_sessions(self._engine)
        self._watch = Watch(settings.silent_s)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self.gone = threading.Event()  # another living worker has the name: this one may not go on
        self.me: Me | None = None
        self.warm: dict[str, int] = {}
        self.others: Sequence[Worker] = ()

    def begin(self) -> None:
        """Sign in and begin to beat.

        Raises
        ------
        Conflict
            A living worker has the name.
        """
        self._sign_in()
        self._look()
        self._thread.start()

    def drain(self) -> None:
        """Tell the others that nothing more is taken."""
        self._tell("draining")

    def end(self) -> None:
        """Sign out: what is still held is free at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self._tell("stopped")
        self._engine.dispose()

    def _tell(self, state: str) -> None:
        if self.me is None:
            return
        try:
            with self._sessions.begin() as session:
                set_state(session, self.me, state)
                if state == "stopped":
                    release(session, self.me.name, self.me.generation, f"{self.name} stopped; the next goes on.")
        except SQLAlchemyError as problem:
            _log.warning("%s is %s, which the others will see by its silence: %s", self.name, state, problem)

    def _sign_in(self) -> None:
        """Take the name, at the latest once a worker that had it stood still for so long."""
        watch, seen = Watch(self._settings.silent_s), None
        while True:
            with self._sessions.begin() as session:
                self.me = sign_in(session, self.name, self.facts, seen)
                if self.me is not None:
                    before = self.me.generation - 1
                    release(session, self.name, before, f"{self.name} was started anew and goes on.")
                    return
                row = count_beats(session, self.name)
            if row is not None:
                first = watch.look([row])
                if watch.has_moved(self.name):
                    raise refuse_second(row)
                seen = row.beats if first else None
            if seen is None:
                time.sleep(_LOOK_S)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(_LOOK_S):
            try:
                if time.monotonic() >= due:
                    due = time.monotonic() + BEAT_S
                    self._beat()
                self._look()
            except Conflict as taken:
                _log.error("%s ends: found %s.", self.name, taken.found)
                self.gone.set()
                return
            except SQLAlchemyError as problem:
                _log.warning("The database did not answer a beat of %s: %s", self.name, problem)
            except Exception:  # the thread outlives whatever it meets; without beats the worker would be given up
                _log.exception("A beat of %s failed", self.name)

    def _beat(self) -> None:
        if self.me is None:
            self._sign_in()
            return
        self.warm, idle = self._describe()
        with self._sessions.begin() as session:
            there = beat(session, self.me, self.warm, idle)
        if not there:
            _log.warning("%s was given up by the others; what it was at is theirs. It signs in again.", self.name)
            self.me = None
            self._on_lost()
            self._sign_in()

    def _look(self) -> None:
        with self._sessions() as session:
            rows = list_workers(session)
        self.others = [row for row in rows if row.name != self.name]
        for row in self._watch.look(self.others):
            with self._sessions.begin() as session:
                if bury(session, row):
                    _log.warning("%s is silent; others go on with what it was at.", row.name)
                    message = f"Worker {row.name} was not heard of for {self._settings.silent_s:g} s; another goes on."
                    release(session, row.name, row.generation, message)
        with self._sessions.begin() as session:
            explain_needs(session, rows)


def explain_needs(session: Session, rows: Sequence[Worker]) -> None:
    """Say in the logs of jobs that no living worker is large enough for them."""
    for queue in {queue for row in rows for queue in row.queues}:
        there = [find_memory(queue, row) for row in rows if queue in row.queues and row.state in ALIVE]
        known = [memory for memory in there if memory is not None]
        if len(known) == len(there):
            explain_waiting(session, queue, max(known), len(known))


def find_memory(queue: str, worker: Worker | Facts) -> float | None:
    """Return the memory in GiB that a worker has for jobs of a queue; None: unknown, so that it tries."""
    return worker.card_gib if queue == "gpu" else worker.memory_gib


def look_around(place: str, queues: Sequence[str], settings: Settings) -> Facts:
    """Say what this process is and has."""
    card_gib, card = _find_card() if "gpu" in queues else (None, "")
    return Facts(
        host=socket.gethostname(),
        pid=os.getpid(),
        place=place,
        queues=tuple(queues),
        memory_gib=settings.memory_gib or _find_memory(),
        card_gib=settings.card_gib or card_gib,
        card=card,
    )


def _find_memory() -> float:
    """Return the memory of the machine in GiB, or what the control group of this process leaves of it."""
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _LIMIT.read_text().strip() if _LIMIT.is_file() else "max"
    return float(here if limit == "max" else min(here, int(limit))) / GIB


def _find_card() -> tuple[float | None, str]:
    """Return the memory in GiB and the name of the card that this process sees, without loading torch."""
    if shutil.which("nvidia-smi") is None:
        return None, ""
    number = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    command = ["nvidia-smi", f"--id={number}", "--query-gpu=memory.total,name", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        memory, _, name = said.strip().partition(", ")
        return float(memory) / 1024, name
    except (OSError, ValueError, subprocess.SubprocessError) as problem:
        _log.warning("The memory of the graphics card is not known: %s", problem)
        return None, ""
