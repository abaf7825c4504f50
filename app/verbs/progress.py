"""How far jobs are: their place in the queue, and how long what is left will take."""

import threading
import time
import uuid
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from sqlalchemy import func, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from voxelight.app.costs import find_cost
from voxelight.storage.access import seeing_everything
from voxelight.storage.leases import order_of_turns
from voxelight.storage.schema import Job, Run

ACTIVE = ("queued", "running")
_JOBS, _ITEMS = 5, 50  # that an estimate goes by: the newest ones


class Places:
    """The place of each job that waits, 20 bytes a job: a queue may be long, and every process knows all of it.

    Parameters
    ----------
    rows : id and place of each, in the order of ids
    """

    def __init__(self, rows: Iterable[tuple[uuid.UUID, int]]) -> None:
        self._ids, self._places = bytearray(), array("I")
        for job_id, place in rows:
            self._ids += job_id.bytes
            self._places.append(place)

    def __len__(self) -> int:
        return len(self._places)

    def find(self, job_id: uuid.UUID) -> int | None:
        """Return the place of a job; None where it does not wait."""
        at = bisect_left(range(len(self)), job_id.bytes, key=self._read)
        return self._places[at] if at < len(self) and self._read(at) == job_id.bytes else None

    def _read(self, at: int) -> bytes:
        return bytes(self._ids[_ID_BYTES * at : _ID_BYTES * (at + 1)])


@dataclass
class _Kept:
    """What was found of the queues of one installation, and until when it is told again."""

    places: Places
    usual: dict[tuple[str, str], float | None] = field(default_factory=dict)
    until: float = 0.0


_KEPT: WeakKeyDictionary[Engine, _Kept] = WeakKeyDictionary()
_LOCK = threading.Lock()
_ID_BYTES = 16
_AT_ONCE = 1000  # places that are read from the database
_FEW = 500  # jobs that wait, sorted for whoever asks
_SHARE = 10  # it is told again for so many times what it took: a long queue that many ask for is not sorted for each


def forget_queues(session: Session) -> None:
    """Look at the queues anew next time: this process changed them."""
    with _LOCK:
        _KEPT.pop(session.get_bind().engine, None)


def find_places(session: Session, jobs: Iterable[Job]) -> dict[uuid.UUID, int]:
    """Return the place in its queue of each job that waits, 1 for the next: owners take turns, each in own order.

    Jobs of everybody count, whoever asks. Where the queues are so long that sorting them takes its time, a change of
    another process shows up to ten times as much later, and a job that came meanwhile has no place until then.
    """
    waiting = {job.id for job in jobs if job.status == "queued"}
    if not waiting:
        return {}
    places = _look(session).places
    found = {job_id: places.find(job_id) for job_id in waiting}
    return {job_id: place for job_id, place in found.items() if place is not None}


def _recall(session: Session) -> _Kept | None:
    kept = _KEPT.get(session.get_bind().engine)
    return kept if kept is not None and time.monotonic() <= kept.until else None


def _look(session: Session) -> _Kept:
    with _LOCK:
        kept = _recall(session)
        if kept is None:
            began = time.monotonic()
            with seeing_everything(session):
                kept = _Kept(_sort(session))
            if len(kept.places) >= _FEW:
                now = time.monotonic()
                kept.until = now + _SHARE * (now - began)
                _KEPT[session.get_bind().engine] = kept
        return kept


def _sort(session: Session) -> Places:
    since = func.coalesce(Job.queued_at, Job.created_at).label("since")
    own_order = (Job.priority.desc(), since, Job.id)
    own = func.row_number().over(partition_by=(Job.queue, Job.owner), order_by=own_order).label("own")
    turns = select(Job.id, Job.queue, own, order_of_turns().label("turn"), Job.owner).where(Job.status == "queued")
    each = turns.subquery()
    place = func.row_number().over(partition_by=each.c.queue, order_by=(each.c.own, each.c.turn, each.c.owner))
    # Both databases order ids by their bytes.
    in_order = select(each.c.id, place).order_by(each.c.id).execution_options(yield_per=_AT_ONCE)
    return Places((job_id, number) for job_id, number in session.execute(in_order))


def find_pace(session: Session, recipe: str, queue: str) -> tuple[float, int] | None:
    """Return what an item of a recipe takes on a queue, in seconds, and of how many that is the mean; None: unknown.

    The newest items of the newest jobs are taken.
    """
    newest = select(Job.id).where(Job.recipe == recipe, Job.queue == queue, Job.done > 0)
    return _average(session, session.scalars(newest.order_by(Job.created_at.desc()).limit(_JOBS)).all())


def find_paces(session: Session, jobs: Iterable[Job]) -> dict[uuid.UUID, float]:
    """Return what an item of each active job takes, in seconds.

    By its own items, else by those of its recipe here, else as it was measured once elsewhere.
    """
    paces: dict[uuid.UUID, float] = {}
    kept = _recall(session)
    usual: dict[tuple[str, str], float | None] = kept.usual if kept else {}
    for job in jobs:
        if job.status not in ACTIVE:
            continue
        own = _average(session, [job.id]) if job.done else None
        kind = (job.recipe, job.queue)
        if own is None and kind not in usual:
            usual[kind] = _find_usual(session, *kind)
        pace = own[0] if own else usual[kind]
        if pace is not None:
            paces[job.id] = pace
    return paces


def _find_usual(session: Session, recipe: str, queue: str) -> float | None:
    with seeing_everything(session):
        here = find_pace(session, recipe, queue)
    measured = find_cost(recipe, queue)
    return here[0] if here is not None else measured.seconds if measured else None


def count_left(session: Session, jobs: Iterable[Job]) -> dict[uuid.UUID, int]:
    """Return how many items of each active job are neither done nor given up."""
    active = [job.id for job in jobs if job.status in ACTIVE]
    if not active:
        return {}
    left = select(Run.job_id, func.count()).where(Run.job_id.in_(active), Run.status.in_(("pending", "running")))
    return dict(session.execute(left.group_by(Run.job_id)).all())


def _average(session: Session, job_ids: Sequence[uuid.UUID]) -> tuple[float, int] | None:
    newest = select(Run.seconds).where(Run.job_id.in_(job_ids), Run.seconds.is_not(None))
    found = session.scalars(newest.order_by(Run.finished_at.desc()).limit(_ITEMS))
    seconds = [each for each in found if each is not None]
    return (sum(seconds) / len(seconds), len(seconds)) if seconds else None
