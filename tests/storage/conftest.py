"""Databases of any version with rows in every table, and another of either kind."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import CHAR, JSON, Engine, MetaData, Numeric, create_engine, inspect, make_url, select
from sqlalchemy import text as sql

import voxelight.storage.migrations

AT = datetime(2026, 11, 24, 7, 8, 9, 123456, tzinfo=UTC)
LISTS = {"warnings", "scans", "problems", "retrieved", "sha256s", "scopes", "queues", "idle", "proof"}
# What the two databases write in different ways, and what must not be lost on the way.
JSON_VALUES = {
    "tiny": 1e-7,
    "huge": 1e300,
    "whole": 3.0,
    "many": 2**60,
    "text": 'Zoë\t"ß" 脳 🧠',
    "deep": [{"b": None}],
}
WORDS = {"project": "default", "kind": "volume", "role": "label_map", "queue": "cpu", "job kind": "segment"}


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Make an empty database of a kind, as many as are asked for; return its URL."""
    made: list[str] = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / uuid.uuid4().hex}.sqlite"
        server = make_url(request.getfixturevalue("postgres"))
        made.append(f"test_{uuid.uuid4().hex}")
        _administer(server, f"CREATE DATABASE {made[-1]}")
        return server.set(database=made[-1]).render_as_string(hide_password=False)

    yield make
    for name in made:
        _administer(make_url(request.getfixturevalue("postgres")), f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: Any, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sql(statement))
    engine.dispose()


@pytest.fixture(scope="session")
def migrate_to() -> Callable[[Engine, str], None]:
    """Bring the tables of a database to a version, an older one too."""

    def to(engine: Engine, revision: str) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(voxelight.storage.migrations.__file__).parent))
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            connection.commit()

    return to


@pytest.fixture(scope="session")
def fill_tables() -> Callable[..., dict[str, list[dict[str, Any]]]]:
    """Write rows into every table as it is now, whatever its version; return them by table.

    A row refers to rows of its number; `blobs` are contents by hash for the files that rows name.
    """
    return _fill


def _fill(engine: Engine, count: int = 1, blobs: dict[str, int] | None = None) -> dict[str, list[dict[str, Any]]]:
    tables = MetaData()
    tables.reflect(engine)
    sizes = blobs or {f"{number + 1:064x}": 1 for number in range(count)}
    written: dict[str, list[dict[str, Any]]] = {}
    checks = inspect(engine)
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            if table.name.startswith(("alembic", "sqlite", "embedding_halfvec")) or _is_of_the_engine(table):
                continue
            words = _find_words(checks.get_check_constraints(table.name))
            rows = [
                {column.name: _make_value(table, column, number, written, words) for column in table.columns}
                for number in range(len(sizes))
            ]
            if table.name == "blob":
                rows = [
                    row | {"sha256": sha, "size": size} for row, (sha, size) in zip(rows, sizes.items(), strict=True)
                ]
            connection.execute(table.insert(), rows)
            written[table.name] = rows
            if engine.dialect.name == "postgresql" and table.name.startswith("embedding"):
                connection.execute(sql(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {len(sizes)})"))
    return written


def _is_of_the_engine(table: Any) -> bool:
    return table.schema == "dbos" or {"workflow_uuid", "workflow_name"} & set(table.c.keys()) or table.name in {
        "dbos_migrations", "queues", "application_versions", "notifications", "streams",
    }  # fmt: skip


def _find_words(checks: list[Any]) -> dict[str, str]:
    """The first word that each column with a list of words allows."""
    found = [re.search(r"(\w+)\W.*?'(\w+)'", check["sqltext"]) for check in checks]
    return {match[1]: match[2] for match in found if match}


def _make_value(table: Any, column: Any, number: int, written: Any, words: dict[str, str]) -> Any:
    name, kind = column.name, column.type
    if column.foreign_keys:
        target = next(iter(column.foreign_keys)).column
        return written[target.table.name][number][target.name]
    if name in words:
        return "done" if (table.name, name) == ("run", "status") else words[name]
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{table.name}{name}{number}")
    if isinstance(kind, CHAR):
        return identity.hex  # so SQLite keeps it
    values = {
        JSON: [] if name in LISTS else (JSON_VALUES if (table.name, name) == ("job", "params") else {}),
        bool: False,
        int: {"dim": 2, "seed": 2**62 - 1}.get(name, number + 1),
        float: 0.1 + number,
        datetime: AT + timedelta(seconds=number),
        bytes: b"\x00<\x00\x00",  # (1, 0) in float16
        uuid.UUID: identity,
    }
    python = JSON if isinstance(kind, JSON) else float if isinstance(kind, Numeric) else kind.python_type
    if python in values:
        return values[python]
    if kind.length == 64:
        return f"{number + 1:064x}"
    return WORDS.get(f"{table.name} {name}", WORDS.get(name, f"{name[:5]}é{number}"))[: kind.length]


@pytest.fixture(scope="session")
def read_all() -> Callable[[Engine], dict[str, list[str]]]:
    """Read every row by the models of the schema, apart from how the software moves them: sorted texts by table."""

    def read(engine: Engine) -> dict[str, list[str]]:
        from voxelight.storage.schema import Base

        found = {}
        with engine.connect() as connection:
            for table in Base.metadata.sorted_tables:
                rows = connection.execute(select(table)).mappings()
                texts = (json.dumps(dict(row), default=repr, sort_keys=True) for row in rows)
                found[table.name] = sorted(map(_with_plain_numbers, texts))
        return found

    return read


def _with_plain_numbers(row: str) -> str:
    """Write numbers alike: PostgreSQL gives 3.0 in JSON back as 3, and 1e300 as a whole number."""
    return json.dumps(json.loads(row, parse_int=_as_number, parse_float=_as_number))


def _as_number(digits: str) -> int | float:
    value = float(digits)
    if digits.lstrip("-").isdecimal() and abs(value) < 2**63:
        return int(digits)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
