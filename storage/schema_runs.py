"""The tables: who was scanned, what was asked, what came out.

The tree dataset > subject > imaging session > scan is XNAT's, the run with its metrics and artifacts MLflow's.
"""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from voxelight.storage.schema_access import DEFAULT_PROJECT
from voxelight.storage.schema_base import Base, BytewiseText, Row, one_of, utc_now

CONSENTS = ("none", "given", "public", "simulated")
JOB_STATUSES = ("queued", "running", "done", "failed", "cancelled")
RUN_STATUSES = ("pending", "running", "done", "failed", "cancelled")


class Dataset(Row, Base):
    """What was collected together, for which purpose and with which consent.

    `project` says who may see it; `keeps_headers`: clinical and local, so that identity stays in the headers and
    nothing may be exported; `removes_faces`: from heads on their way in, and one whose face stays is held.
    """

    __tablename__ = "dataset"
    __table_args__ = (one_of("consent", CONSENTS), Index(None, "project"))

    name: Mapped[str] = mapped_column(String(120), unique=True)
    project: Mapped[str] = mapped_column(String(120), default=DEFAULT_PROJECT, server_default=DEFAULT_PROJECT)
    consent: Mapped[str] = mapped_column(String(16), default="none")
    consent_note: Mapped[str] = mapped_column(Text, default="", server_default="")
    purpose: Mapped[str] = mapped_column(Text, default="")
    licence: Mapped[str] = mapped_column(String(200), default="")
    source: Mapped[str] = mapped_column(Text, default="")
    simulated: Mapped[bool] = mapped_column(default=False)
    keeps_headers: Mapped[bool] = mapped_column(default=False, server_default=false())
    removes_faces: Mapped[bool] = mapped_column(default=False, server_default=false())
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # declared so by the base class


class Subject(Row, Base):
    """One person of a data set, by label only."""

    __tablename__ = "subject"
    __table_args__ = (UniqueConstraint("dataset_id", "label"), Index(None, "label", "id"))

    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(120))
    dataset: Mapped[Dataset] = relationship()


class ImagingSession(Row, Base):
    """One visit of a subject."""

    __tablename__ = "imaging_session"
    __table_args__ = (UniqueConstraint("subject_id", "label"),)

    subject_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("subject.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(120))
    subject: Mapped[Subject] = relationship()


class Blob(Base):
    """Content by its hash. A blob without a row here does not exist."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Scan(Row, Base):
    """One uploaded file, or one series of them, that passed the intake check; `held` says why it waits for a person."""

    __tablename__ = "scan"
    __table_args__ = (
        UniqueConstraint("imaging_session_id", "name"),
        Index(None, "kind"),
        Index(None, "name"),
        Index(None, "blob_sha256"),
        Index(None, "thumbnail_sha256"),
    )

    imaging_session_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("imaging_session.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    owner: Mapped[str] = mapped_column(String(120), default="", server_default="")  # who brought it; empty: the shell
    kind: Mapped[str] = mapped_column(String(32))
    geometry: Mapped[dict[str, Any]] = mapped_column(default=dict)
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    warnings: Mapped[list[Any]] = mapped_column(default=list)
    deid_status: Mapped[str] = mapped_column(String(32), default="header-ignored")
    held: Mapped[str] = mapped_column(Text, default="", server_default="")
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"))
    thumbnail_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256"))
    imaging_session: Mapped[ImagingSession] = relationship()
    blob: Mapped[Blob] = relationship(foreign_keys=[blob_sha256])


class Model(Row, Base):
    """A network or decoder with the hash of its weights."""

    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("name", "version", "weights_sha256"),)

    name: Mapped[str] = mapped_column(String(120))
    version: Mapped[str] = mapped_column(String(40))
    task: Mapped[str] = mapped_column(String(40))
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    weights_sha256: Mapped[str] = mapped_column(String(64), default="")  # empty: fitted anew in every run
    licence: Mapped[str] = mapped_column(String(200), default="")


class Job(Row, Base):
    """What a person asked for: one recipe over many items."""

    __tablename__ = "job"
    __table_args__ = (one_of("status", JOB_STATUSES), Index(None, "created_at", "id"), Index(None, "dataset_id"))

    kind: Mapped[str] = mapped_column(String(32))
    recipe: Mapped[str] = mapped_column(String(120))
    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    model_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("model.id"))
    owner: Mapped[str] = mapped_column(String(120), default="", server_default="")  # who asked; empty: the shell
    queue: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16), default="queued")
    idempotency_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    attempt: Mapped[int] = mapped_column(default=1)
    priority: Mapped[int] = mapped_column(default=0, server_default="0")  # the higher, the sooner
    cloned_from: Mapped[uuid.UUID | None]  # no foreign key: SQLite adds one only by copying the whole table
    queued_at: Mapped[datetime | None]  # when the present attempt went on its queue; empty: when the job was made
    params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    seed: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int] = mapped_column(default=0)
    done: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(Text, default="")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    dataset: Mapped[Dataset] = relationship()
    model: Mapped[Model] = relationship()

    @property
    def workflow_id(self) -> str:
        """Name of the durable workflow of the present attempt."""
        return f"{self.id}.{self.attempt}"


class Run(Row, Base):
    """One item of a job: what was done to it, by what, and how it ended."""

    __tablename__ = "run"
    __table_args__ = (
        UniqueConstraint("job_id", "item_key"),
        one_of("status", RUN_STATUSES),
        Index(None, "finished_at", "id"),
        Index(None, "job_id", "finished_at", "id"),
        Index(None, "subject_id", "finished_at", "id"),
        Index(None, "scan_id", "finished_at", "id"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    item_key: Mapped[str] = mapped_column(String(600))
    position: Mapped[int]
    subject_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("subject.id", ondelete="CASCADE"))
    scan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("scan.id", ondelete="CASCADE"))
    status: Mapped[str] = mapped_column(String(16), default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    provenance: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error_class: Mapped[str] = mapped_column(String(120), default="")
    error_message: Mapped[str] = mapped_column(Text, default="")
    traceback: Mapped[str] = mapped_column(Text, default="")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    seconds: Mapped[float | None]  # of work; the share of one where several were done together
    job: Mapped[Job] = relationship()
    scan: Mapped[Scan] = relationship()
    subject: Mapped[Subject] = relationship()


class Artifact(Row, Base):
    """A file that came out of a run, or of a job as a whole where `run_id` is empty."""

    __tablename__ = "artifact"
    __table_args__ = (
        UniqueConstraint("run_id", "role", "name"),
        Index(None, "job_id", "run_id"),
        Index(None, "blob_sha256"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(255))
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"))
    blob: Mapped[Blob] = relationship()


class Segmentation(Row, Base):
    """A label map of one scan."""

    __tablename__ = "segmentation"
    __table_args__ = (Index(None, "scan_id"), Index(None, "artifact_id"))

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), unique=True)
    scan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("scan.id", ondelete="CASCADE"))
    artifact_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("artifact.id", ondelete="CASCADE"))
    labels: Mapped[dict[str, Any]] = mapped_column(default=dict)
    volumes_ml: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Reconstruction(Row, Base):
    """What was decoded from one subject's responses to one stimulus.

    `artifact_id` is the picture, or where none was asked for the caption or the tokens; `rank` counts the samples of
    one stimulus; `retrieved` are the stimuli of the data set whose pictures come next, the closest first.
    """

    __tablename__ = "reconstruction"
    __table_args__ = (
        UniqueConstraint("run_id", "stimulus_id", "rank"),
        Index(None, "stimulus_id"),
        Index(None, "subject_id"),
        Index(None, "artifact_id"),
    )

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    subject_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("subject.id", ondelete="CASCADE"))
    stimulus_id: Mapped[str] = mapped_column(String(200))
    artifact_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("artifact.id", ondelete="CASCADE"))
    seed: Mapped[int] = mapped_column(BigInteger)
    rank: Mapped[int] = mapped_column(default=0)
    simulated: Mapped[bool] = mapped_column(default=False)
    caption: Mapped[str] = mapped_column(Text, default="", server_default="")
    retrieved: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")


class Metric(Row, Base):
    """A score with its interval and its null; `detail` says how it was made."""

    __tablename__ = "metric"
    __table_args__ = (
        UniqueConstraint("run_id", "name", "label"),
        Index(None, "job_id", "run_id"),
        Index(None, "name", "value", "run_id", "label"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(80))
    label: Mapped[str] = mapped_column(String(200), default="")
    value: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]
    unit: Mapped[str] = mapped_column(String(20), default="")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class ResultWord(Base):
    """A word of what was decoded, to be found by its beginning; see `storage.words`."""

    __tablename__ = "result_word"
    __table_args__ = (Index(None, "run_id"),)

    word: Mapped[str] = mapped_column(BytewiseText, primary_key=True)
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)


class JobEvent(Row, Base):
    """One line of a job's log; of an item where `run_id` is set."""

    __tablename__ = "job_event"
    __table_args__ = (Index(None, "job_id", "created_at", "id"), Index(None, "run_id"))

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    level: Mapped[str] = mapped_column(String(16), default="info")
    message: Mapped[str] = mapped_column(Text)


class CurvePoint(Base):
    """What a training showed over a stretch of its steps, the last of which is `step`."""

    __tablename__ = "curve_point"

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    values: Mapped[dict[str, Any]] = mapped_column(default=dict)
