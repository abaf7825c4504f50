"""Who works, and what waits."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from voxelight.app.schemas_workers import QueueAnswer, WorkerAnswer
from voxelight.storage.schema import Job, QueueEntry, Worker
from voxelight.storage.stores import Stores
from voxelight.storage.workers import ALIVE, database_seconds, list_workers

QUEUES = ("cpu", "gpu")
_KEPT_S = 86_400.0  # for which those that are gone are shown


class Workers:
    """The workers of an installation, and its queues; both show numbers and names of machines, and no content."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def list(self, alive: bool = False) -> Sequence[WorkerAnswer]:
        """Return the workers by name; those that are gone for a day, unless only the living are asked for."""
        with self._stores.sessions() as session:
            oldest = database_seconds(session) - _KEPT_S
            states = ALIVE if alive else (*ALIVE, "stopped", "dead")
            rows = [row for row in list_workers(session, states) if row.state in ALIVE or row.seen_s > oldest]
            held = select(QueueEntry.worker, func.count()).where(QueueEntry.worker != "").group_by(QueueEntry.worker)
            at_work: dict[str, int] = dict(session.execute(held).all())
            return [_answer(row, at_work.get(row.name, 0)) for row in rows]

    def queues(self) -> Sequence[QueueAnswer]:
        """Return how much waits on each queue, and for how long."""
        with self._stores.sessions() as session:
            now, alive = database_seconds(session), list_workers(session)
            return [_describe(session, queue, now, [row for row in alive if queue in row.queues]) for queue in QUEUES]


def _answer(row: Worker, at_work: int) -> WorkerAnswer:
    same = ("name", "host", "pid", "state", "generation", "queues", "idle", "memory_gib", "card_gib", "card")
    return WorkerAnswer(
        **{name: getattr(row, name) for name in same},
        warm_bytes=row.warm,
        at_work=at_work,
        started_at=datetime.fromtimestamp(row.started_s, UTC),
        seen_at=datetime.fromtimestamp(row.seen_s, UTC),
    )


def _describe(session: Session, queue: str, now: float, workers: Sequence[Worker]) -> QueueAnswer:
    here = QueueEntry.queue == queue
    waits = (here, QueueEntry.worker == "")
    waiting, oldest = session.execute(
        select(func.count(), func.min(QueueEntry.queued_s)).where(*waits)
    ).one()  # fmt: skip
    left = select(func.coalesce(func.sum(Job.total - Job.done - Job.failed), 0)).join(
        QueueEntry, QueueEntry.job_id == Job.id
    )
    return QueueAnswer(
        queue=queue,
        waiting=waiting,
        running=session.scalar(select(func.count()).where(here, QueueEntry.worker != "")) or 0,
        items=int(session.scalar(left.where(here, QueueEntry.action_id.is_(None))) or 0),
        owners=session.scalar(select(func.count(func.distinct(QueueEntry.owner))).where(*waits)) or 0,
        oldest_s=max(0.0, now - oldest) if oldest else 0.0,
        workers=len(workers),
        idle_workers=sum(queue in row.idle and row.state == "running" for row in workers),
        without_worker=session.scalar(select(func.count()).where(*waits, QueueEntry.problem != "")) or 0,
    )
