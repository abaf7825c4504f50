"""The two stores of one installation, opened together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import CompoundSelect, Engine, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from voxelight.storage.access import seeing_everything
from voxelight.storage.artifacts import BlobRef, BlobStore
from voxelight.storage.checks import Checks
from voxelight.storage.quotas import Quotas
from voxelight.storage.schema import Artifact, Base, Blob, Scan

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True)
class Stores:
    """A database, its sessions and the blobs that its rows name; beside them what can be fetched or made again.

    Parameters
    ----------
    engine, sessions : of the database
    blobs : files by their hash
    weights : folder of weights that were fetched
    cache : folder of what stages of a pipeline gave before
    checks : which read files from elsewhere
    quotas : how much people may store
    """

    engine: Engine
    sessions: sessionmaker[Session]
    blobs: BlobStore
    weights: Path
    cache: Path
    checks: Checks
    quotas: Quotas = Quotas()  # noqa: RUF009  # frozen


def name_blob(session: Session, ref: BlobRef, media_type: str) -> None:
    """Give stored content its row, which makes it visible once the transaction commits."""
    name_blobs(session, [(ref, media_type)])


def name_blobs(session: Session, named: Sequence[tuple[BlobRef, str]]) -> None:
    """Give stored contents, each with its media type, their rows; as `name_blob` does for one."""
    values = {ref.sha256: {"sha256": ref.sha256, "size": ref.size, "media_type": kind} for ref, kind in named}
    if values:
        # In one order everywhere, so that two transactions that store the same files wait for each other, never both.
        rows = [values[sha256] for sha256 in sorted(values)]
        insert = _INSERT[session.get_bind().dialect.name]
        session.execute(insert(Blob).values(rows).on_conflict_do_nothing())


def add_unless_there(session: Session, table: type[Base], **values: Any) -> None:
    """Add a row, unless one with its unique values is there, which another transaction may add at the same time."""
    insert = _INSERT[session.get_bind().dialect.name]
    session.execute(insert(table).values(**values).on_conflict_do_nothing())


def forget_blobs(stores: Stores, sha256s: Iterable[str]) -> list[str]:
    """Remove contents at once that no scan and no artifact names any more, and return their hashes."""
    gone = []
    for sha256 in dict.fromkeys(sha256s):
        with stores.sessions.begin() as session, seeing_everything(session):
            row = delete(Blob).where(Blob.sha256 == sha256, Blob.sha256.not_in(select_used()))
            if session.execute(row.returning(Blob.sha256)).first() is None:
                continue
        stores.blobs.remove(sha256)
        gone.append(sha256)
    return gone


def select_used() -> CompoundSelect[str]:
    """Choose the hashes that a scan or an artifact names."""
    return select(Scan.blob_sha256).union(
        select(Scan.thumbnail_sha256).where(Scan.thumbnail_sha256.is_not(None)), select(Artifact.blob_sha256)
    )


def sweep(stores: Stores, older_than_s: float = 86_400) -> list[str]:
    """Remove blobs and temporary files that no row names, and rows of blobs that nothing refers to.

    Returns
    -------
    list of str
        What was removed.
    """

    def find_named() -> set[str]:
        with stores.sessions() as session, seeing_everything(session):
            return set(session.scalars(select(Blob.sha256)))

    with stores.sessions.begin() as session, seeing_everything(session):
        for blob in session.scalars(select(Blob).where(Blob.sha256.not_in(select_used()))):
            session.delete(blob)
    return stores.blobs.sweep(find_named, older_than_s)
