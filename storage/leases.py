"""What waits on the queues, who works on it, and that nobody else writes down what came out.

Whoever takes an entry up gets a ticket. Every transaction of its work ends with a look whether the ticket still holds,
under a lock of the entry: a worker that was given up for dead, and goes on, writes nothing.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, event, exists, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from voxelight.storage.joblog import add_event
from voxelight.storage.schema import Job, QueueEntry, Run, Turn, Worker
from voxelight.storage.stores import Stores
from voxelight.storage.workers import INSERT, Me, changed, database_seconds

_LOOKED_AT = 20  # entries of an owner
_CHECKED = "ticket checked"


class Fenced(Exception):
    """The work was given to another, or taken back; what was made meanwhile is dropped."""


@dataclass(frozen=True)
class Lease:
    """What a worker took up.

    Parameters
    ----------
    workflow_id : of the entry
    part : how often it was taken up, this time included
    ticket : who may write
    job_id, action_id : what it is about
    worker : name of who took it
    queue, recipe, alike : as the entry has it
    """

    workflow_id: str
    part: int
    ticket: str
    job_id: uuid.UUID
    action_id: uuid.UUID | None
    worker: str
    queue: str
    recipe: str
    alike: str

    @property
    def name(self) -> str:
        """Name of the durable workflow; each part is one of its own, that goes on with what is not done."""
        return f"{self.workflow_id}.{self.part}-{self.ticket[:6]}"


def add_entry(session: Session, entry: QueueEntry) -> None:
    """Put something on its queue, in the caller's transaction: both are there, or neither."""
    insert = INSERT[session.get_bind().dialect.name]
    session.execute(insert(Turn).values(queue=entry.queue, owner=entry.owner, number=0).on_conflict_do_nothing())
    entry.queued_s = database_seconds(session)
    session.add(entry)
    session.flush()


def withdraw(
    session: Session, job_id: uuid.UUID, action_id: uuid.UUID | None = None, waiting_only: bool = False
) -> None:
    """Take a job, or an action, off its queue; whoever works on it writes no more, unless it may end what it does."""
    gone = delete(QueueEntry).where(QueueEntry.job_id == job_id, QueueEntry.action_id.is_not_distinct_from(action_id))
    session.execute(gone.where(QueueEntry.worker == "") if waiting_only else gone)


def list_candidates(session: Session, queue: str, memory_gib: float | None) -> Sequence[QueueEntry]:
    """Return what comes next on a queue for a worker of so much memory, the first first.

    All of them belong to the owner whose turn it is: the one who was served the longest ago, however much of others
    waits; within an owner the higher priority goes first, and of equals the older.
    """
    waits = exists().where(QueueEntry.worker == "", QueueEntry.queue == Turn.queue, QueueEntry.owner == Turn.owner)
    if memory_gib is not None:
        waits = waits.where(QueueEntry.need_gib <= memory_gib)
    turns = select(Turn.owner).where(Turn.queue == queue, waits).order_by(Turn.number, Turn.owner).limit(1)
    owner = session.scalar(turns)
    return [] if owner is None else session.scalars(_select_waiting(queue, owner, memory_gib)).all()


def _select_waiting(queue: str, owner: str, memory_gib: float | None) -> Select[QueueEntry]:
    waiting = select(QueueEntry).where(QueueEntry.worker == "", QueueEntry.queue == queue, QueueEntry.owner == owner)
    if memory_gib is not None:
        waiting = waiting.where(QueueEntry.need_gib <= memory_gib)
    return waiting.order_by(QueueEntry.rank, QueueEntry.number).limit(_LOOKED_AT)


def list_alike(session: Session, lease: Lease, limit: int) -> Sequence[QueueEntry]:
    """Return entries that wait and whose items may be done in one batch with those of a lease, the first first."""
    waiting = select(QueueEntry).where(
        QueueEntry.worker == "",
        QueueEntry.queue == lease.queue,
        QueueEntry.alike == lease.alike,
        QueueEntry.alike != "",
    )
    return session.scalars(waiting.order_by(QueueEntry.rank, QueueEntry.number).limit(limit)).all()


def has_others(session: Session, lease: Lease, memory_gib: float | None) -> bool:
    """Whether something of another owner waits on the queue of a lease."""
    owner = select(QueueEntry.owner).where(QueueEntry.ticket == lease.ticket).scalar_subquery()
    waits = select(QueueEntry.number).where(QueueEntry.worker == "", QueueEntry.queue == lease.queue)
    if memory_gib is not None:
        waits = waits.where(QueueEntry.need_gib <= memory_gib)
    return session.scalar(waits.where(QueueEntry.owner != owner).limit(1)) is not None


def take(session: Session, me: Me, number: int) -> Lease | None:
    """Take an entry up for a worker; None where another was faster, or the worker may begin nothing.

    The owner goes to the end of the line of owners.
    """
    at_work = update(Worker).where(Worker.name == me.name, Worker.generation == me.generation)
    if not changed(session, at_work.where(Worker.state == "running").values(state="running")):
        return None
    ticket = uuid.uuid4().hex
    free = update(QueueEntry).where(QueueEntry.number == number, QueueEntry.worker == "")
    taken = {"worker": me.name, "generation": me.generation, "ticket": ticket, "part": QueueEntry.part + 1}
    row = session.execute(free.values(**taken, problem="").returning(QueueEntry)).scalar()
    if row is None:
        return None
    last = select(func.coalesce(func.max(Turn.number), 0) + 1).where(Turn.queue == row.queue).scalar_subquery()
    session.execute(update(Turn).where(Turn.queue == row.queue, Turn.owner == row.owner).values(number=last))
    names = ("workflow_id", "part", "ticket", "job_id", "action_id", "worker", "queue", "recipe", "alike")
    return Lease(**{name: getattr(row, name) for name in names})


def give_back(session: Session, lease: Lease, message: str = "") -> bool:
    """Let others go on with what a lease is about; False where it holds no more."""
    held = update(QueueEntry).where(QueueEntry.workflow_id == lease.workflow_id, QueueEntry.ticket == lease.ticket)
    given = changed(session, held.values(worker="", generation=0, ticket=""))
    if given and message and lease.action_id is None:
        add_event(session, lease.job_id, message)
    return given


def return_starts(session: Session, *which: ColumnElement[bool]) -> None:
    """Put back items under way that were cut off through no fault of theirs: that start counts against none."""
    under_way = update(Run).where(*which, Run.status == "running")
    session.execute(under_way.values(status="pending", attempts=Run.attempts - 1, started_at=None))


def finish(session: Session, lease: Lease) -> None:
    """Take what ended off its queue, in the transaction that says so.

    Raises
    ------
    Fenced
        The lease holds no more.
    """
    held = delete(QueueEntry).where(QueueEntry.workflow_id == lease.workflow_id, QueueEntry.ticket == lease.ticket)
    if not changed(session, held):
        raise Fenced
    session.info[_CHECKED] = True


def release(session: Session, name: str, generation: int, message: str) -> int:
    """Free everything that a worker held that is there no more; return how much that was."""
    held = select(QueueEntry).where(QueueEntry.worker == name, QueueEntry.generation <= generation)
    rows = session.scalars(held.with_for_update()).all()
    for row in rows:
        row.worker, row.generation, row.ticket = "", 0, ""
        if row.action_id is None:
            add_event(session, row.job_id, message, level="warning")
    return len(rows)


def fence(stores: Stores, lease: Lease) -> Stores:
    """Return stores in whose database a transaction commits only while the lease holds; else it raises `Fenced`."""
    sessions: sessionmaker[Session] = sessionmaker(stores.engine, expire_on_commit=False)
    held = update(QueueEntry).where(QueueEntry.workflow_id == lease.workflow_id, QueueEntry.ticket == lease.ticket)

    def refuse_others(session: Session) -> None:
        # An update locks the entry until the commit on both databases; a look alone would not on SQLite.
        if not session.info.pop(_CHECKED, False) and not changed(session, held.values(ticket=lease.ticket)):
            raise Fenced

    event.listen(sessions, "before_commit", refuse_others)
    return replace(stores, sessions=sessions)


def explain_waiting(session: Session, queue: str, largest_gib: float, workers: int) -> int:
    """Say in the logs of jobs that need more memory than any living worker has that they wait for a larger one."""
    waiting = select(QueueEntry).where(QueueEntry.worker == "", QueueEntry.queue == queue, QueueEntry.problem == "")
    rows = session.scalars(waiting.where(QueueEntry.need_gib > largest_gib).limit(_LOOKED_AT)).all()
    for row in rows:
        row.problem = (
            f"Waits for a worker with {row.need_gib:.1f} GiB: the largest of {workers} on queue {queue} has "
            f"{largest_gib:.1f} GiB."
        )
        add_event(session, row.job_id, row.problem, level="warning")
    return len(rows)


def find_problems(session: Session, job_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Return why jobs are taken up by no worker, of those of which that is known."""
    rows = select(QueueEntry.job_id, QueueEntry.problem).where(QueueEntry.problem != "", QueueEntry.job_id.in_(job_ids))
    return dict(session.execute(rows).all())


def order_of_turns() -> Any:
    """Return the expression by which owners of waiting jobs come to their turn, for a query over `Job`."""
    turn = select(Turn.number).where(Turn.queue == Job.queue, Turn.owner == Job.owner).scalar_subquery()
    return func.coalesce(turn, 0)
