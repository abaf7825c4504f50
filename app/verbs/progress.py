"""How far jobs are: their place in the queue, and how long what is left will take."""

import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from voxelight.app.costs import find_cost
from voxelight.storage.schema import Job, Run

ACTIVE = ("queued", "running")
_JOBS, _ITEMS = 5, 50  # that an estimate goes by: the newest ones


def find_places(session: Session, jobs: Iterable[Job]) -> dict[uuid.UUID, int]:
    """Return the place in its queue of each job that waits, 1 for the next."""
    waiting = {job.id for job in jobs if job.status == "queued"}
    if not waiting:
        return {}
    since = func.coalesce(Job.queued_at, Job.created_at)
    place = func.row_number().over(partition_by=Job.queue, order_by=(Job.priority.desc(), since, Job.id))
    line = select(Job.id, place.label("place")).where(Job.status == "queued").subquery()
    return dict(session.execute(select(line.c.id, line.c.place).where(line.c.id.in_(waiting))).all())


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
    known: dict[tuple[str, str], float | None] = {}
    for job in jobs:
        if job.status not in ACTIVE:
            continue
        own = _average(session, [job.id]) if job.done else None
        kind = (job.recipe, job.queue)
        if own is None and kind not in known:
            known[kind] = _find_usual(session, *kind)
        pace = own[0] if own else known[kind]
        if pace is not None:
            paces[job.id] = pace
    return paces


def _find_usual(session: Session, recipe: str, queue: str) -> float | None:
    if (here := find_pace(session, recipe, queue)) is not None:
        return here[0]
    measured = find_cost(recipe, queue)
    return measured.seconds if measured else None


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
