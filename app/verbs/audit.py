"""The audit log: read, verified, taken out."""

from collections.abc import Iterator

from sqlalchemy import select

from voxelight.app.schemas import Page
from voxelight.app.schemas_audit import AuditAnswer, AuditVerified
from voxelight.models.errors import BadInput
from voxelight.storage.audit import AuditLog, note, parse_head, read_events
from voxelight.storage.queries import refuse_limit
from voxelight.storage.schema import AuditEvent
from voxelight.storage.stores import Stores


class Audit:
    """What was done, by whom.

    Parameters
    ----------
    stores : whose sessions the log watches
    log : the chain
    """

    def __init__(self, stores: Stores, log: AuditLog) -> None:
        self._stores = stores
        self._log = log

    def list(
        self, limit: int = 100, cursor: str | None = None, action: str | None = None, target: str | None = None
    ) -> Page[AuditAnswer]:
        """Return events, newest first.

        Parameters
        ----------
        limit, cursor : which part
        action : only events of this action, `delete scan` for one
        target : only events of this target, `job` and its id for one

        Raises
        ------
        BadInput
            The limit or the cursor is none.
        """
        refuse_limit(limit)
        query = select(AuditEvent).order_by(AuditEvent.seq.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(AuditEvent.seq < _read_cursor(cursor))
        if action:
            query = query.where(AuditEvent.action == action)
        if target:
            query = query.where(AuditEvent.target == target)
        with self._stores.sessions() as session:
            rows = session.scalars(query).all()
        following = str(rows[limit - 1].seq) if len(rows) > limit else None
        return Page(items=[_answer(row) for row in rows[:limit]], next_cursor=following)

    def verify(self, since: str | None = None) -> AuditVerified:
        """Compute every hash again, and say which event is the first that is wrong.

        Parameters
        ----------
        since : an event that was written down elsewhere, as an earlier answer gave its `head`

        Raises
        ------
        BadInput
            `since` is none, or the file of the newest event was changed.
        """
        with self._stores.sessions() as session:
            found = self._log.verify(session, parse_head(since) if since else None)
        head = str(found.head) if found.head else None
        return AuditVerified(ok=found.wrong is None, events=found.events, head=head, wrong=found.wrong, why=found.why)

    def export(self) -> Iterator[str]:
        """Yield every event as a line of JSON, the oldest first."""
        with self._stores.sessions() as session:
            for row in read_events(session):
                yield f"{_answer(row).model_dump_json()}\n"

    def note(self, action: str, target: str, actor: str = "", **detail: object) -> None:
        """Note what leaves no row by itself, in a transaction of its own; `actor` where it is not who these act for."""
        with self._stores.sessions.begin() as session:
            if actor:
                session.info["principal"] = actor
            note(session, action, target, **detail)


def _read_cursor(cursor: str) -> int:
    if not cursor.isdecimal() or len(cursor) > 18:
        raise BadInput(f"the cursor {cursor[:40]!r}", "next_cursor of an earlier page", "Start again without a cursor.")
    return int(cursor)


def _answer(row: AuditEvent) -> AuditAnswer:
    return AuditAnswer(**{name: getattr(row, name) for name in AuditAnswer.model_fields})
