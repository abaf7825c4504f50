"""Rows of jobs as the runner reads them, and the lines that it ends a job with."""

import uuid

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from voxelight.app.verbs.submission import say_items
from voxelight.storage.joblog import add_event
from voxelight.storage.schema import ImagingSession, Job, Run, Scan, Subject


class Cancelled(Exception):
    """A person took the job back while it ran."""


def refuse_cancelled(session: Session, job: Job) -> None:
    """Raise `Cancelled` where the job was cancelled since it was read, though it may have been taken up again."""
    status, attempt = session.execute(select(Job.status, Job.attempt).where(Job.id == job.id)).one()
    if status == "cancelled" or attempt != job.attempt:
        raise Cancelled


def read_job(session: Session, job_id: uuid.UUID) -> Job:
    """Return a job with its data set and its model, to be read after the session."""
    return session.scalars(
        select(Job).where(Job.id == job_id).options(joinedload(Job.dataset), joinedload(Job.model))
    ).one()


def select_runs() -> Select[Run]:
    """Select runs with all that a pipeline asks of them, to be read after the session."""
    return select(Run).options(
        joinedload(Run.job).joinedload(Job.dataset),
        joinedload(Run.subject),
        joinedload(Run.scan).joinedload(Scan.blob),
        joinedload(Run.scan)
        .joinedload(Scan.imaging_session)
        .joinedload(ImagingSession.subject)
        .joinedload(Subject.dataset),
    )


def note_end(session: Session, job: Job) -> None:
    """Write how a job ended into its log."""
    failed = f", {job.failed} failed" if job.failed else ""
    level = "info" if job.status == "done" else "warning"
    add_event(session, job.id, f"Ended: {job.done} of {say_items(job.total)} done{failed}.", level=level)
    if job.error:
        add_event(session, job.id, f"The end of the job failed: {job.error.partition(chr(10))[0]}", level="error")
