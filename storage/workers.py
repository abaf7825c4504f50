"""Who works: workers sign in, beat, and are given up by the others once they are silent.

No clock of a host decides: a worker counts its beats, and each other looks at the counts by its own clock, which
nobody sets. A count that stood still for so long is that of a dead worker; where the database itself did not answer
meanwhile, that time does not count.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, func, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from voxelight.models.errors import Conflict
from voxelight.storage.schema import Worker

ALIVE = ("running", "draining")
BEAT_S = 1.0
INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_MOST_BETWEEN_S = 1.5  # two looks further apart say nothing of the time between them


@dataclass(frozen=True)
class Me:
    """A worker as the others know it; a name that is taken over has the next generation."""

    name: str
    generation: int


@dataclass(frozen=True)
class Facts:
    """What a worker says of itself when it signs in.

    Parameters
    ----------
    host, pid : where it runs
    place : names the lock that a living worker of its name holds
    queues : that it works on
    memory_gib : of its machine, as far as it may use it; None: unknown
    card_gib, card : of its graphics card; None: it has none that it knows of
    """

    host: str
    pid: int
    place: str
    queues: tuple[str, ...]
    memory_gib: float | None = None
    card_gib: float | None = None
    card: str = ""


def database_seconds(session: Session) -> float:
    """Return seconds since 1970 by the clock of the database."""
    return float(session.scalar(select(_now(session))))  # type: ignore[arg-type]  # a row comes


def sign_in(session: Session, name: str, facts: Facts, seen: int | None) -> Me | None:
    """Enter a worker; None where one of the name may be alive: look again, with the beats that `count_beats` gave.

    Parameters
    ----------
    session : transaction
    name : of the worker among those of all machines
    facts : of this process
    seen : beats of a worker of this name that stood still for long enough; None: that was not looked at
    """
    now = database_seconds(session)
    unborn = {"generation": 0, "state": "stopped", "beats": 0, "started_s": now, "seen_s": now, "warm": {}, "idle": []}
    insert = INSERT[session.get_bind().dialect.name](Worker)
    of_facts = {"host": facts.host, "pid": facts.pid, "place": facts.place, "queues": list(facts.queues)}
    session.execute(insert.values(name=name, **unborn, **of_facts).on_conflict_do_nothing())
    row = session.scalars(select(Worker).where(Worker.name == name).with_for_update()).one()
    if row.state in ALIVE and row.place != facts.place and row.beats != seen:
        return None  # the same place: this process holds the lock that it would hold
    row.generation, row.state, row.beats = row.generation + 1, "running", row.beats + 1
    for field, value in of_facts.items():
        setattr(row, field, value)
    row.memory_gib, row.card_gib, row.card = facts.memory_gib, facts.card_gib, facts.card
    row.started_s = row.seen_s = now
    row.warm, row.idle = {}, []
    session.flush()
    return Me(name, row.generation)


def refuse_second(row: Worker) -> Conflict:
    """Say that a worker of the name works elsewhere."""
    return Conflict(
        f"a worker named {row.name!r} at work on {row.host}, process {row.pid}",
        "one living worker of a name",
        "Stop it, or start this one with another --name.",
    )


def count_beats(session: Session, name: str) -> Worker | None:
    """Return the row of a worker of a name, with its beats so far."""
    return session.scalar(select(Worker).where(Worker.name == name).execution_options(populate_existing=True))


def beat(session: Session, me: Me, warm: dict[str, int], idle: Sequence[str]) -> bool:
    """Say that a worker is there; False where it was given up, or its name taken over."""
    mine = update(Worker).where(Worker.name == me.name, Worker.generation == me.generation, Worker.state.in_(ALIVE))
    values = {"beats": Worker.beats + 1, "seen_s": _now(session), "warm": warm, "idle": list(idle)}
    return changed(session, mine.values(**values))


def set_state(session: Session, me: Me, state: str) -> None:
    """Say that a worker takes nothing more, or ended."""
    mine = update(Worker).where(Worker.name == me.name, Worker.generation == me.generation)
    changed(session, mine.values(state=state, idle=[], seen_s=_now(session)))


def bury(session: Session, row: Worker) -> bool:
    """Give a worker up, unless it beat again meanwhile."""
    same = update(Worker).where(Worker.name == row.name, Worker.generation == row.generation)
    return changed(session, same.where(Worker.beats == row.beats, Worker.state.in_(ALIVE)).values(state="dead"))


def list_workers(session: Session, states: Collection[str] = ALIVE) -> Sequence[Worker]:
    """Return the workers in some states, by name."""
    return session.scalars(select(Worker).where(Worker.state.in_(states)).order_by(Worker.name)).all()


class Watch:
    """Looks at the beats of others, and finds those that stood still for too long.

    Parameters
    ----------
    silent_s : seconds without a beat after which a worker is dead
    clock : seconds by a clock that nobody sets
    """

    def __init__(self, silent_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent_s, self._clock = silent_s, clock
        self._still: dict[str, tuple[int, int, float]] = {}  # name -> generation, beats, seconds without a change
        self._looked: float | None = None
        self._moved: set[str] = set()

    def look(self, rows: Collection[Worker]) -> list[Worker]:
        """Return the workers that are dead by now."""
        now = self._clock()
        passed = 0.0 if self._looked is None else min(now - self._looked, _MOST_BETWEEN_S)
        self._looked = now
        before, self._still = self._still, {}
        for row in rows:
            generation, beats, still = before.get(row.name, (row.generation, row.beats, 0.0))
            changed = (generation, beats) != (row.generation, row.beats)
            self._still[row.name] = row.generation, row.beats, 0.0 if changed else still + passed
        self._moved = {row.name for row in rows if row.name in before and not self._still[row.name][2]}
        return [row for row in rows if self._still[row.name][2] >= self._silent_s]

    def has_moved(self, name: str) -> bool:
        """Whether a worker beat between the last two looks."""
        return name in self._moved


def _now(session: Session) -> Any:
    if session.get_bind().dialect.name == "sqlite":
        return literal_column("(julianday('now') - 2440587.5) * 86400.0")
    return func.extract("epoch", func.clock_timestamp())


def changed(session: Session, statement: Any) -> bool:
    """Carry out a change and return whether it met a row."""
    result: CursorResult[Any] = session.execute(  # type: ignore[assignment]  # of a change it is one
        statement, execution_options={"synchronize_session": False}
    )
    return result.rowcount > 0
