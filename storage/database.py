"""Open a database and bring its tables up to date; SQLite and PostgreSQL differ only in the URL."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from voxelight.models.errors import BadInput, Conflict

_MIGRATIONS = Path(__file__).parent / "migrations"
_PRAGMAS = (
    "busy_timeout=30000",
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "secure_delete=ON",  # what is deleted is overwritten
    "cache_size=-65536",  # KiB, at most: the upper levels of the indexes of a million results
)
MOVING = "moving-"  # in place of a version: an installation is being moved into this database
_MIGRATION_LOCK = 0x766F78  # one number that all processes of this application share


def open_engine(url: str) -> Engine:
    """Open a pool of connections.

    Parameters
    ----------
    url : `sqlite:///file` or `postgresql://user@host/name`

    Raises
    ------
    BadInput
        The URL names another database.
    """
    kind = make_url(url).get_backend_name()
    if kind == "sqlite":
        return _open_sqlite(url)
    if kind == "postgresql":
        # Errors go into logs: without what was being written.
        return create_engine(url, pool_size=10, max_overflow=20, pool_pre_ping=True, hide_parameters=True)
    raise BadInput(f"a {kind} database", "sqlite or postgresql", "Set VOXELIGHT_DATABASE_URL to one of the two.")


def _open_sqlite(url: str) -> Engine:
    file = make_url(url).database
    if file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, pool_size=10, max_overflow=20, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: Any, _record: object) -> None:
        # Writers queue at BEGIN, where the busy timeout holds; a lock taken up later would fail at once.
        connection.isolation_level = "IMMEDIATE"
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    return engine


def open_sessions(engine: Engine) -> sessionmaker[Session]:
    """Return a maker of sessions whose rows stay readable after a commit."""
    return sessionmaker(engine, expire_on_commit=False)


def upgrade(engine: Engine, revision: str = "head") -> bool:
    """Apply the migrations that are missing, one process at a time.

    Parameters
    ----------
    engine : of the database
    revision : the last one to apply

    Returns
    -------
    bool
        Whether anything was applied.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    head = ScriptDirectory.from_config(config).get_current_head()
    with _one_at_a_time(engine), engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        connection.rollback()
        if current == head:
            return False
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
        return True


def is_current(engine: Engine) -> bool:
    """Whether the newest migration has been applied; asked at every start, so it loads no Alembic.

    Raises
    ------
    Conflict
        The tables are those of a newer version, or an installation is being moved into them.
    """
    with engine.connect() as connection:
        version = read_version(connection)
    return version is not None and refuse_unknown(version) == version


def refuse_unknown(version: str) -> str:
    """Refuse tables that this software does not know, and return the newest version that it does.

    Raises
    ------
    Conflict
        They are those of a newer version, or an installation is being moved into them.
    """
    if version.startswith(MOVING):
        raise Conflict(
            "a database into which an installation is being moved",
            "one that is whole",
            "Let voxelight storage migrate end; where it was cut off, run it again with the same two places.",
        )
    known = {path.stem.split("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")}
    if version not in known:
        raise Conflict(
            f"a database with tables of version {version}",
            f"at most {max(known)}, which this software knows",
            "Use the newer version that wrote it, or restore a backup from before; tables are never taken back.",
        )
    return max(known)


def read_version(connection: Connection) -> str | None:
    """Return by which migration the tables were made last, none where there are no tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def forget_deleted(engine: Engine) -> None:
    """Leave nothing of deleted rows in the files of the database, as far as it can be told to.

    On SQLite, which overwrites what is deleted, the log is emptied into the database; PostgreSQL frees the space for
    other rows, which overwrite it in time.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql("VACUUM")


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection, _advisory_lock(connection):
            yield
        return
    file = engine.url.database
    if not file or file == ":memory:":
        yield
        return
    with Path(f"{file}.migrate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _advisory_lock(connection: Connection) -> Iterator[None]:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
    connection.commit()
    try:
        yield
    finally:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
        connection.commit()
