"""The tables of many workers: who works, what waits or is being worked on, and whose turn it is."""

import uuid
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from voxelight.storage.schema_base import Base, Number, one_of

WORKER_STATES = ("running", "draining", "stopped", "dead")


class Worker(Base):
    """One process that works on queues; whoever takes its name over has the next generation.

    `started_s` and `seen_s` are seconds since 1970 by the clock of the database, to be shown: whether a worker lives is
    told by its beats, which others count by clocks that nobody sets.
    """

    __tablename__ = "worker"
    __table_args__ = (one_of("state", WORKER_STATES),)

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    generation: Mapped[int] = mapped_column(default=1)
    state: Mapped[str] = mapped_column(String(16), default="running")
    host: Mapped[str] = mapped_column(String(255))
    place: Mapped[str] = mapped_column(String(255))  # names the lock that a living worker of the name holds
    pid: Mapped[int]
    queues: Mapped[list[Any]]
    beats: Mapped[int] = mapped_column(BigInteger, default=0)
    started_s: Mapped[float]
    seen_s: Mapped[float]
    memory_gib: Mapped[float | None]
    card_gib: Mapped[float | None]
    card: Mapped[str] = mapped_column(String(255), default="", server_default="")
    warm: Mapped[dict[str, Any]] = mapped_column(default=dict)  # recipe -> bytes of what is loaded for it
    idle: Mapped[list[Any]] = mapped_column(default=list)  # queues on which it could begin something


class QueueEntry(Base):
    """A job, or what was asked of one, that waits or is being worked on; it goes when that ends.

    `worker`, `generation` and `ticket` say who may write: nobody who holds another ticket. `part` counts how often it
    was taken up, each time as a durable workflow of its own. `rank` is the lower, the sooner.
    """

    __tablename__ = "queue_entry"
    __table_args__ = (Index(None, "worker", "queue", "owner", "rank", "number"), Index(None, "job_id"))

    number: Mapped[int] = mapped_column(Number, primary_key=True)
    workflow_id: Mapped[str] = mapped_column(String(80), unique=True)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    action_id: Mapped[uuid.UUID | None]
    queue: Mapped[str] = mapped_column(String(32))
    owner: Mapped[str] = mapped_column(String(120), default="", server_default="")
    rank: Mapped[int] = mapped_column(default=0, server_default="0")
    recipe: Mapped[str] = mapped_column(String(120), default="", server_default="")
    alike: Mapped[str] = mapped_column(String(64), default="", server_default="")  # may share a batch where equal
    need_gib: Mapped[float] = mapped_column(default=0.0, server_default="0")
    part: Mapped[int] = mapped_column(default=0, server_default="0")
    worker: Mapped[str] = mapped_column(String(255), default="", server_default="")  # empty: it waits
    generation: Mapped[int] = mapped_column(default=0, server_default="0")
    ticket: Mapped[str] = mapped_column(String(32), default="", server_default="")
    queued_s: Mapped[float] = mapped_column(default=0.0, server_default="0")
    problem: Mapped[str] = mapped_column(Text, default="", server_default="")  # why no worker takes it


class Turn(Base):
    """When something of an owner was last begun on a queue; the lowest number is next."""

    __tablename__ = "turn"

    queue: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(120), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, default=0)
