"""Workers and queues as they cross a door."""

from datetime import datetime

from voxelight.app.schemas import Wire


class WorkerAnswer(Wire):
    """One process that works on queues.

    Parameters
    ----------
    name, host, pid : which, and where
    state : running, draining (takes nothing more), stopped or dead (was silent for too long)
    generation : counts how often its name was started
    queues, idle : that it works on, and on which it could begin something
    memory_gib, card_gib, card : of its machine and its graphics card, where known
    warm_bytes : recipe or profile -> bytes of the networks that it keeps loaded
    at_work : jobs that it holds
    started_at, seen_at : by the clock of the database
    """

    name: str
    host: str
    pid: int
    state: str
    generation: int
    queues: list[str]
    idle: list[str]
    memory_gib: float | None
    card_gib: float | None
    card: str
    warm_bytes: dict[str, int]
    at_work: int
    started_at: datetime
    seen_at: datetime


class QueueAnswer(Wire):
    """How much waits on a queue, for whoever decides how many workers there are.

    Parameters
    ----------
    queue : cpu or gpu
    waiting, running : jobs, and what was asked of finished ones
    items : of them that are not done
    owners : who has something waiting
    oldest_s : seconds since the oldest of them was put there; 0 where none waits
    workers, idle_workers : that live, and that could begin something
    without_worker : of the waiting, those that need more memory than any of them has
    """

    queue: str
    waiting: int
    running: int
    items: int
    owners: int
    oldest_s: float
    workers: int
    idle_workers: int
    without_worker: int
