"""The log of a job: one line for everything that happens to it, in the transaction in which it happens."""

import uuid
from collections.abc import Sequence

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from voxelight.storage.queries import MAX_PAGE, Cursor, parse_cursor, refuse_limit
from voxelight.storage.schema import JobEvent, utc_now

_LONGEST = 2000  # letters of a line; the whole of an error stands with its item


def add_event(
    session: Session, job_id: uuid.UUID, message: str, run_id: uuid.UUID | None = None, level: str = "info"
) -> None:
    """Write a line into the log of a job.

    Parameters
    ----------
    session : the transaction in which it happens
    job_id, run_id : the job, and the item where it is about one
    message : what happened, as a sentence
    level : info, warning or error
    """
    session.add(JobEvent(job_id=job_id, run_id=run_id, level=level, message=message[:_LONGEST], created_at=utc_now()))


def read_events(
    session: Session, job_id: uuid.UUID, limit: int = MAX_PAGE, cursor: str | None = None, newest: bool = False
) -> tuple[Sequence[JobEvent], bool]:
    """Return lines of a job's log, the oldest first, and whether more follow.

    Parameters
    ----------
    session : open session
    job_id : the job
    limit : lines at most
    cursor : of the line after which to go on
    newest : the last lines instead of the first ones

    Raises
    ------
    BadInput
        The limit or the cursor is none.
    """
    refuse_limit(limit)
    query = select(JobEvent).where(JobEvent.job_id == job_id)
    at, identity = JobEvent.created_at, JobEvent.id
    if cursor:
        place = parse_cursor(cursor)
        query = query.where(or_(at > place.at, and_(at == place.at, identity > place.id)))
    order = (at.desc(), identity.desc()) if newest else (at, identity)
    rows = session.scalars(query.order_by(*order).limit(limit + 1)).all()
    shown = rows[:limit]
    return shown[::-1] if newest else shown, len(rows) > limit


def find_place(event: JobEvent) -> str:
    """Return the cursor of a line, to go on after it."""
    return str(Cursor(event.created_at, event.id))
