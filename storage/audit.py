"""What was done, by whom, in a chain of hashes that nobody can change unseen who has the database alone.

Rows that are written through a session are noted by the session itself, so that no verb can forget to; what leaves no
row is noted by `note`. Events are appended in the transaction that they tell of, as its last statements: one at a time,
so that the chain has no fork, and not at all where the transaction fails. Each hash is an HMAC-SHA256, by a key that
lies in a file, of the event and the hash before. The newest of them is kept in a second file, so that a chain whose end
was cut off is found as well.
"""

import fcntl
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert, inspect, select, text
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, sessionmaker

from voxelight.models.errors import BadInput
from voxelight.storage.keys import derive_key, ensure_key
from voxelight.storage.schema import AuditEvent, Job, utc_now

FIRST = "0" * 64
_LOG, _PENDING, _WRITTEN = "audit log", "audit pending", "audit written"
_LOCK = 0x61756474  # one number that all processes of this application share
_BATCH = 1000
# What is noted of which table, beside its id: ids, hashes and words of ours, never what a person typed.
_NOTED: dict[str, tuple[str, ...]] = {
    "account": ("is_admin", "disabled_at"),
    "action": ("job_id", "kind"),
    "api_key": ("account_id", "prefix", "scopes", "is_page", "revoked_at"),
    "correction": ("run_id", "artifact_id"),
    "dataset": ("consent", "keeps_headers"),
    "job": ("kind", "dataset_id", "status", "attempt"),
    "membership": ("account_id", "role"),
    "project": (),
    "receipt": ("what",),
    "review": ("run_id", "verdict"),
    "saved_search": (),
    "scan": ("imaging_session_id", "kind", "blob_sha256", "deid_status"),
    "upload": ("dataset_id", "size"),
}
# Columns that a worker or a door keeps up by itself; a change of these alone is nobody's deed.
_KEPT_UP: dict[str, frozenset[str]] = {
    "action": frozenset({"status", "problem", "started_at", "finished_at"}),
    "api_key": frozenset({"last_used_at"}),
    "job": frozenset({"total", "done", "failed", "started_at", "finished_at", "error", "status"}),
    "upload": frozenset({"expires_at", "status", "scans", "problems", "name"}),
}
_BOOKS = frozenset({"version", "updated_at"})


@dataclass(frozen=True)
class Noted:
    """What will be an event: who did what to what."""

    actor: str
    action: str
    target: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class Head:
    """The newest event: its number and its hash."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True)
class Verified:
    """What a look at the whole chain gave: how many events, the first that is wrong, and why."""

    events: int
    head: Head | None
    wrong: int | None
    why: str


class AuditLog:
    """The chain of an installation.

    Parameters
    ----------
    key : file of the key, made on first use; the same for every host
    head : file of the newest event, outside of the database
    """

    def __init__(self, key: Path, head: Path) -> None:
        self._key_file = key
        self._head = head
        self._key: bytes | None = None

    def watch(self, sessions: sessionmaker[Session]) -> None:
        """Note from now on what sessions write, and what those write that are bound to somebody."""
        sessions.configure(info={**(sessions.kw.get("info") or {}), _LOG: self})

    def verify(self, session: Session, since: Head | None = None) -> Verified:
        """Compute every hash again.

        Parameters
        ----------
        session : of the database
        since : an event that was written down elsewhere, and must be there still
        """
        last, count = Head(0, FIRST), 0
        known = [head for head in (self.read_head(), since) if head]
        for row in read_events(session):
            count += 1
            if why := self._find_fault(row, last, known):
                return Verified(count, Head(row.seq, row.hash), row.seq, why)
            last = Head(row.seq, row.hash)
        gone = max((head.seq for head in known), default=0)
        if gone > last.seq:
            return Verified(count, last if count else None, last.seq + 1, f"missing, as are all up to {gone}")
        return Verified(count, last if count else None, None, "")

    def read_head(self) -> Head | None:
        """Return the newest event that the file beside the database knows; None where there is no such file.

        Raises
        ------
        BadInput
            The file was not written by this log.
        """
        try:
            seq, digest, mac = self._head.read_text().split()
            head = Head(int(seq), digest)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            head, mac = Head(0, ""), ""
        if not hmac.compare_digest(mac, self._mac(f"head {head}")):
            raise BadInput(
                f"{self._head.name}, which was changed or was written with another key",
                "the newest event, signed by this log",
                f"Find out who changes {self._head}; restore it and {self._key_file.name} from the backup.",
            )
        return head

    def _find_fault(self, row: AuditEvent, last: Head, known: list[Head]) -> str:
        if row.seq != last.seq + 1:
            return f"comes after {last.seq}: what stood between is missing"
        if row.previous != last.hash:
            return "does not follow the event before"
        if not hmac.compare_digest(row.hash, self._hash(row.seq, row.at, _as_noted(row), row.previous)):
            return "was changed since it was written"
        if any(head.seq == row.seq and head.hash != row.hash for head in known):
            return "is another than the one that was written down"
        return ""

    def append(self, session: Session) -> None:
        """Write what a session has noted; nothing may be written in its transaction after this."""
        pending: list[Noted] = session.info.pop(_PENDING, [])
        if not pending:
            return
        # Not through the session, which may not see the log on behalf of somebody.
        connection, table = session.connection(), AuditEvent.__table__
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        else:
            connection.execute(text("DELETE FROM audit_event WHERE seq < 0"))  # takes the lock of writers
        newest = connection.execute(select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)).first()
        head = Head(*newest) if newest else Head(0, FIRST)
        rows = []
        for noted in pending:
            at, seq = utc_now(), head.seq + 1
            digest = self._hash(seq, at, noted, head.hash)
            rows.append({"seq": seq, "at": at, **vars(noted), "previous": head.hash, "hash": digest})
            head = Head(seq, digest)
        connection.execute(insert(AuditEvent), rows)
        session.info[_WRITTEN] = head

    def keep_head(self, session: Session) -> None:
        """Write the newest event of a session that was committed to the file beside the database."""
        head: Head | None = session.info.pop(_WRITTEN, None)
        if head is None:
            return
        with self._head.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                known = self.read_head()
            except BadInput:
                return  # left as it is, so that whoever verifies sees it
            if known is None or known.seq < head.seq:
                temporary = self._head.with_suffix(".new")
                temporary.write_text(f"{head.seq} {head.hash} {self._mac(f'head {head}')}\n")
                temporary.replace(self._head)

    def _hash(self, seq: int, at: datetime, noted: Noted, previous: str) -> str:
        content = [seq, at.astimezone(UTC).isoformat(), noted.actor, noted.action, noted.target, noted.detail, previous]
        return self._mac(json.dumps(content, sort_keys=True, separators=(",", ":")))

    def _mac(self, content: str) -> str:
        if self._key is None:
            self._key = derive_key(ensure_key(self._key_file), "audit log")
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()


def note(session: Session, action: str, target: str, **detail: Any) -> None:
    """Note what leaves no row by itself; it is written when the session commits.

    Parameters
    ----------
    session : whose principal did it
    action : a verb and what it was done to, `export job` for one
    target : the kind and the id of what it was done to
    detail : ids, hashes, counts; never what a person typed
    """
    pending = session.info.setdefault(_PENDING, [])
    pending.append(Noted(name_actor(session.info.get("principal")), action[:80], target[:120], detail))


def name_actor(principal: Any) -> str:
    """Return how the log calls who asks; empty: the shell or a worker, whom the system's accounts guard."""
    return str(getattr(principal, "name", principal or ""))[:120]


def read_events(session: Session, after: int = 0) -> Iterator[AuditEvent]:
    """Yield events in their order, in flat memory."""
    while True:
        query = select(AuditEvent).where(AuditEvent.seq > after).order_by(AuditEvent.seq).limit(_BATCH)
        rows = session.scalars(query).all()
        yield from rows
        if len(rows) < _BATCH:
            return
        after = rows[-1].seq
        session.expunge_all()


def parse_head(written: str) -> Head:
    """Read an event that was written down, `12:` and its hash.

    Raises
    ------
    BadInput
        It is none.
    """
    seq, _, digest = written.strip().partition(":")
    if not seq.isdecimal() or len(digest) != len(FIRST):
        raise BadInput(f"{written[:80]!r}", "number:hash, as verify prints it", "Copy it whole.")
    return Head(int(seq), digest)


def _as_noted(row: AuditEvent) -> Noted:
    return Noted(row.actor, row.action, row.target, row.detail)


@event.listens_for(Session, "after_flush")
def _note_rows(session: Session, _: UOWTransaction) -> None:
    """Note what a flush has written; the states are still those from before it."""
    if _LOG not in session.info:
        return
    for verb, rows in (("create", session.new), ("change", session.dirty), ("delete", session.deleted)):
        for row in rows:
            table = row.__tablename__
            if table not in _NOTED:
                continue
            detail = {name: _plain(getattr(row, name)) for name in _NOTED[table]}
            if verb == "change":
                changed = {each.key for each in inspect(row).attrs if each.history.has_changes()} - _BOOKS
                if not changed - _KEPT_UP.get(table, frozenset()) and not _is_cancelled(row, changed):
                    continue
                detail["changed"] = sorted(changed)
            note(session, f"{verb} {table}", f"{table} {row.id}", **detail)


def _is_cancelled(row: Any, changed: set[str]) -> bool:
    """Whether a person ended a job, and not its worker."""
    return isinstance(row, Job) and "status" in changed and row.status == "cancelled"


@event.listens_for(Session, "do_orm_execute")
def _note_statement(state: ORMExecuteState) -> None:
    """Note a statement that changes many rows at once, whose ids nobody has."""
    if _LOG not in state.session.info:
        return
    if not (state.is_update or state.is_delete) or state.bind_mapper is None:
        return
    table = str(getattr(state.bind_mapper.local_table, "name", ""))
    if table in _NOTED and table not in _KEPT_UP:
        note(state.session, f"{'change' if state.is_update else 'delete'} {table}", f"{table} by condition")


@event.listens_for(Session, "before_commit")
def _append(session: Session) -> None:
    if _LOG in session.info:
        session.flush()
        session.info[_LOG].append(session)


@event.listens_for(Session, "after_commit")
def _keep_head(session: Session) -> None:
    if _LOG in session.info:
        session.info[_LOG].keep_head(session)


@event.listens_for(Session, "after_rollback")
def _forget(session: Session) -> None:
    session.info.pop(_PENDING, None)
    session.info.pop(_WRITTEN, None)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | str | list | None) else str(value)
