"""Questions that the doors ask of the database, and lists cut into pages."""

import base64
import binascii
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload
from sqlalchemy.orm.interfaces import ORMOption

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.schema import (
    Dataset,
    ImagingSession,
    Scan,
    Subject,
)

MAX_PAGE = 500
R = TypeVar("R")


@dataclass(frozen=True)
class Cursor:
    """The place after one row of a list that is ordered by time and id."""

    at: datetime
    id: uuid.UUID

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(f"{self.at.isoformat()}|{self.id}".encode()).decode()


def parse_cursor(text: str) -> Cursor:
    """Read a cursor that a page gave.

    Raises
    ------
    BadInput
        It is none.
    """
    try:
        at, identity = base64.urlsafe_b64decode(text.encode()).decode().split("|")
        return Cursor(datetime.fromisoformat(at).astimezone(UTC), uuid.UUID(identity))
    except (ValueError, OverflowError, binascii.Error):
        raise BadInput(
            f"the cursor {text[:40]!r}", "next_cursor of an earlier page", "Start again without a cursor."
        ) from None


def refuse_limit(limit: int) -> None:
    """Refuse a page that is empty or too long.

    Raises
    ------
    BadInput
        The limit is none.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise BadInput(f"a limit of {limit}", f"1 to {MAX_PAGE}", "Ask for smaller pages and follow next_cursor.")


def read_page(
    session: Session,
    query: Select[R],
    order: tuple[InstrumentedAttribute[Any], InstrumentedAttribute[uuid.UUID]],
    limit: int,
    cursor: str | None,
) -> tuple[Sequence[R], str | None]:
    """Return up to `limit` rows, newest first, and the cursor for what follows.

    Raises
    ------
    BadInput
        The limit or the cursor is none.
    """
    refuse_limit(limit)
    at, identity = order
    if cursor:
        place = parse_cursor(cursor)
        query = query.where(or_(at < place.at, and_(at == place.at, identity < place.id)))
    rows = session.scalars(query.order_by(at.desc(), identity.desc()).limit(limit + 1)).unique().all()
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], str(Cursor(getattr(last, at.key), getattr(last, identity.key)))


def find_dataset(session: Session, name: str) -> Dataset:
    """Return a data set by name.

    Raises
    ------
    NotFound
        There is none.
    """
    dataset = session.scalar(select(Dataset).where(Dataset.name == name))
    if dataset is None:
        known = session.scalars(select(Dataset.name).order_by(Dataset.created_at.desc()).limit(5)).all()
        raise NotFound(
            f"no data set {name!r}",
            f"one of {', '.join(known)}" if known else "a data set",
            "Create it first, with its purpose and consent.",
        )
    return dataset


def find_row(session: Session, table: type[R], identity: uuid.UUID, *options: ORMOption) -> R:
    """Return a row by id, with what options load beside it.

    Raises
    ------
    NotFound
        There is none.
    """
    row = session.get(table, identity, options=options)
    if row is None:
        name = table.__name__.lower()
        raise NotFound(
            f"no {name} {identity}", f"the id of a stored {name}", f"List the {name}s and take an id from there."
        )
    return row


def count_contents(session: Session, dataset: Dataset) -> tuple[int, int]:
    """Return the numbers of subjects and scans of a data set."""
    subjects = session.scalar(select(func.count()).select_from(Subject).where(Subject.dataset_id == dataset.id))
    scans = session.scalar(select(func.count()).select_from(select_scans(dataset.id).subquery()))
    return subjects or 0, scans or 0


def select_scans(
    dataset_id: uuid.UUID | None = None, kinds: Sequence[str] = (), subject: str | None = None
) -> Select[Scan]:
    """Choose scans of one data set, of some kinds, of one subject."""
    query = select(Scan).join(Scan.imaging_session).join(ImagingSession.subject).join(Subject.dataset)
    if dataset_id:
        query = query.where(Dataset.id == dataset_id)
    if kinds:
        query = query.where(Scan.kind.in_(kinds))
    if subject:
        query = query.where(Subject.label == subject)
    return query.options(
        joinedload(Scan.blob),
        joinedload(Scan.imaging_session).joinedload(ImagingSession.subject).joinedload(Subject.dataset),
    )
