"""The tables of what people add: reviews, corrections, searches, uploads, deletions; and what is found by likeness."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from voxelight.storage.schema_access import DEFAULT_PROJECT
from voxelight.storage.schema_base import Base, Number, Row, one_of, utc_now
from voxelight.storage.schema_runs import JOB_STATUSES, Artifact, Dataset, Job

VERDICTS = ("accept", "reject", "unsure")
UPLOAD_STATUSES = ("open", "done", "refused")
EMBEDDING_KINDS = ("picture", "text", "case")


class Review(Row, Base):
    """What a reader thinks of a result; another reader's view stands beside it."""

    __tablename__ = "review"
    __table_args__ = (
        UniqueConstraint("run_id", "reviewer"),
        one_of("verdict", VERDICTS),
        Index(None, "verdict", "run_id"),
    )

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    reviewer: Mapped[str] = mapped_column(String(120))
    verdict: Mapped[str] = mapped_column(String(16))
    comment: Mapped[str] = mapped_column(Text, default="")
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # declared so by the base class


class Correction(Row, Base):
    """A label map that a person drew over another, which stays; `changes` says by how much they differ."""

    __tablename__ = "correction"
    __table_args__ = (
        Index(None, "run_id"),
        Index(None, "artifact_id"),
        Index(None, "base_id"),
    )

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    artifact_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("artifact.id", ondelete="CASCADE"))
    base_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("artifact.id", ondelete="SET NULL"))
    author: Mapped[str] = mapped_column(String(120))
    note: Mapped[str] = mapped_column(Text, default="")
    volumes_ml: Mapped[dict[str, Any]] = mapped_column(default=dict)
    changes: Mapped[dict[str, Any]] = mapped_column(default=dict)
    artifact: Mapped[Artifact] = relationship(foreign_keys=[artifact_id])


class Action(Row, Base):
    """What a person asked of a finished job besides: an evaluation, or where its decoder looks; a newer replaces it.

    `params` are its options, `problem` says why it failed; its files are artifacts of the job.
    """

    __tablename__ = "action"
    __table_args__ = (UniqueConstraint("job_id", "kind"), one_of("status", JOB_STATUSES))

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16), default="queued")
    attempt: Mapped[int] = mapped_column(default=1)
    params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    problem: Mapped[dict[str, Any]] = mapped_column(default=dict)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    job: Mapped[Job] = relationship()

    @property
    def workflow_id(self) -> str:
        """Name of the durable workflow of the present attempt."""
        return f"{self.id}.{self.attempt}"


class SavedSearch(Row, Base):
    """A question about results under a name that can be shared."""

    __tablename__ = "saved_search"
    __table_args__ = (Index(None, "project"),)

    slug: Mapped[str] = mapped_column(String(120), unique=True)
    project: Mapped[str] = mapped_column(String(120), default=DEFAULT_PROJECT, server_default=DEFAULT_PROJECT)
    title: Mapped[str] = mapped_column(String(200))
    query: Mapped[dict[str, Any]] = mapped_column(default=dict)
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # declared so by the base class


class Upload(Row, Base):
    """A file on its way in, which may pause and go on; its bytes lie in a file of their own until it is whole.

    `batch` names what was dropped together; `prefer` and `volume` say how it is read where that can be done in several
    ways; `scans` are the ids of what it became, `problems` what was refused of it.
    """

    __tablename__ = "upload"
    __table_args__ = (
        one_of("status", UPLOAD_STATUSES),
        Index(None, "batch"),
        Index(None, "dataset_id", "created_at", "id"),
    )

    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    subject: Mapped[str] = mapped_column(String(120))
    session: Mapped[str] = mapped_column(String(120))
    name: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    owner: Mapped[str] = mapped_column(String(120), default="", server_default="")  # who brings it; empty: the shell
    batch: Mapped[uuid.UUID | None]
    prefer: Mapped[str | None] = mapped_column(String(8))
    volume: Mapped[int | None]
    idempotency_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    status: Mapped[str] = mapped_column(String(16), default="open")
    scans: Mapped[list[Any]] = mapped_column(default=list)
    problems: Mapped[list[Any]] = mapped_column(default=list)
    expires_at: Mapped[datetime]
    dataset: Mapped[Dataset] = relationship()


class IdentityLink(Row, Base):
    """An identifier that was taken out of a header: its keyed hash in the open, itself encrypted."""

    __tablename__ = "identity_link"
    __table_args__ = (UniqueConstraint("dataset_id", "kind", "keyed_hash"),)

    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(40))
    keyed_hash: Mapped[str] = mapped_column(String(64))
    sealed: Mapped[bytes]


class Receipt(Row, Base):
    """What was deleted, when and by whom: counts and hashes, never content; `proof`: what was searched for it after."""

    __tablename__ = "receipt"
    __table_args__ = (Index(None, "project"),)

    what: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(600))
    author: Mapped[str] = mapped_column(String(120), default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    sha256s: Mapped[list[Any]] = mapped_column(default=list)
    project: Mapped[str] = mapped_column(String(120), default=DEFAULT_PROJECT, server_default=DEFAULT_PROJECT)
    proof: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")


class EmbeddingSpace(Base):
    """Vectors that may be compared: what made them, and how often any came (`changes`) or went (`removals`)."""

    __tablename__ = "embedding_space"
    __table_args__ = (one_of("kind", EMBEDDING_KINDS), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    dim: Mapped[int]
    changes: Mapped[int] = mapped_column(BigInteger, default=0)
    removals: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Embedding(Base):
    """One vector: unit length, little-endian float16; of a scan, or of an item of a run where `run_id` is set.

    `owner` is the run, else the scan; `role` says what of it was embedded; ids grow in the order of a space's commits.
    """

    __tablename__ = "embedding"
    __table_args__ = (
        UniqueConstraint("space_id", "owner", "role", "item"),
        Index(None, "space_id", "id"),
        Index(None, "scan_id"),
        Index(None, "run_id"),
        Index(None, "artifact_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("embedding_space.id", ondelete="CASCADE"))
    owner: Mapped[uuid.UUID]
    role: Mapped[str] = mapped_column(String(40))
    item: Mapped[str] = mapped_column(String(600), default="")
    scan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("scan.id", ondelete="CASCADE"))
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    artifact_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("artifact.id", ondelete="CASCADE"))
    vector: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    space: Mapped[EmbeddingSpace] = relationship()
