"""Rows in a form that both databases give alike: read from one state, hashed in any order, written with their ids."""

import base64
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DataError, IntegrityError, StatementError
from sqlalchemy.types import TypeEngine

from voxelight.models.errors import BadInput
from voxelight.storage.schema_base import Base, Number, UtcDateTime

CHUNK_ROWS = 1000
_MODULUS = 1 << 256
# Who works and what waits at the moment: made anew from the jobs, so neither moved nor kept.
_PASSING = frozenset({"worker", "queue_entry"})
Item = TypeVar("Item")
_TYPES: dict[str, Callable[[], TypeEngine[Any]]] = {
    "uuid": Uuid,
    "time": UtcDateTime,
    "json": lambda: JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql"),
    "bytes": LargeBinary,
    "boolean": Boolean,
    "number": lambda: Number,
    "float": Double,
    "text": Text,
}
_PACKED: dict[str, Callable[[Any], Any]] = {
    "uuid": str,
    "time": lambda value: value.astimezone(UTC).isoformat(timespec="microseconds"),
    "json": lambda value: _same_numbers(value),
    "bytes": lambda value: base64.b64encode(value).decode(),
    "float": lambda value: float(value) + 0.0,  # SQLite has no negative zero
}
_UNPACKED: dict[str, Callable[[Any], Any]] = {
    "uuid": uuid.UUID,
    "time": datetime.fromisoformat,
    "bytes": base64.b64decode,
    "float": float,
}


@dataclass(frozen=True)
class Shape:
    """A table by the names and kinds of its columns, whatever version of the software it belongs to.

    Parameters
    ----------
    name : of the table
    columns : (name, kind), a kind of `uuid`, `time`, `json`, `bytes`, `boolean`, `number`, `float` and `text`
    key : names of the columns of its primary key
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]

    @property
    def table(self) -> Table:
        """The table as it is read and written."""
        columns = [Column(name, _TYPES[kind](), primary_key=name in self.key) for name, kind in self.columns]
        return Table(self.name, MetaData(), *columns)

    @property
    def counts_up(self) -> bool:
        """Whether the database may number its rows."""
        return len(self.key) == 1 and dict(self.columns)[self.key[0]] == "number"

    def pack(self, row: Sequence[Any]) -> str:
        """Return a row as one line of JSON, the same from either database."""
        values = zip(self.columns, row, strict=True)
        packed = [None if value is None else _PACKED.get(kind, _as_it_is)(value) for (_, kind), value in values]
        return json.dumps(packed, ensure_ascii=True, separators=(",", ":"), sort_keys=True)

    def unpack(self, line: str) -> dict[str, Any]:
        """Return what `pack` made a line of, by name."""
        values = zip(self.columns, json.loads(line), strict=True)
        return {
            name: None if value is None else _UNPACKED.get(kind, _as_it_is)(value) for (name, kind), value in values
        }


@dataclass
class Tally:
    """How many rows there are, and the sum of their hashes: the same in any order, another where any row differs."""

    rows: int = 0
    total: int = 0

    def add(self, line: str) -> None:
        """Count one packed row."""
        self.rows += 1
        self.total = (self.total + int.from_bytes(hashlib.sha256(line.encode()).digest())) % _MODULUS

    @property
    def sha256_sum(self) -> str:
        """The sum modulo 2^256, in hex."""
        return f"{self.total:064x}"


def list_shapes() -> list[Shape]:
    """Return every table of this version whose rows last, a table after those that it refers to."""
    return [
        Shape(
            table.name,
            tuple((column.name, _find_kind(column)) for column in table.columns),
            tuple(column.name for column in table.primary_key.columns),
        )
        for table in Base.metadata.sorted_tables
        if table.name not in _PASSING
    ]


def _find_kind(column: Column[Any]) -> str:
    kinds: tuple[tuple[str, type], ...] = (
        ("uuid", Uuid),
        ("time", UtcDateTime),
        ("json", JSON),
        ("bytes", LargeBinary),
        ("boolean", Boolean),
        ("number", Integer),
        ("float", Float),
        ("text", String),
    )
    for kind, known in kinds:
        if isinstance(column.type, known):
            return kind
    raise TypeError(f"{column} is of type {column.type!r}, for which storage/portable.py has no kind")


@contextmanager
def reading_one_state(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees the database as it is now, whatever others write meanwhile."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")  # the driver begins none for a SELECT; readers of a log hold up nobody
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")  # the state is that of the first look
            yield connection
            connection.rollback()
        return
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        yield connection
        connection.rollback()


@contextmanager
def writing_all_or_nothing(engine: Engine) -> Iterator[Connection]:
    """Give a connection whose writes are kept together at the end, and none of them where anything goes wrong."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # else the first savepoint would be the transaction
        yield connection
        connection.commit()


def read_lines(connection: Connection, shape: Shape) -> Iterator[str]:
    """Yield every row of a table as a line, in flat memory."""
    for row in connection.execute(select(shape.table).execution_options(yield_per=CHUNK_ROWS)):
        yield shape.pack(row)


def write_lines(connection: Connection, shape: Shape, lines: Sequence[str]) -> None:
    """Insert rows that `read_lines` gave.

    Raises
    ------
    BadInput
        The database takes one of them not: it is longer than its column, or holds a character that PostgreSQL has not.
    """
    rows = [shape.unpack(line) for line in lines]
    table = shape.table
    try:
        with connection.begin_nested():
            connection.execute(table.insert(), rows)
    except (DataError, IntegrityError, StatementError):
        for row in rows:
            _write_one(connection, shape, table, row)


def _write_one(connection: Connection, shape: Shape, table: Table, row: Mapping[str, Any]) -> None:
    try:
        with connection.begin_nested():
            connection.execute(table.insert(), row)
    except (DataError, IntegrityError, StatementError) as error:
        key = ", ".join(f"{name} {row[name]}" for name in shape.key)
        raise BadInput(
            f"a row of {shape.name} ({key}) that the database does not take: {str(error.__cause__ or error)[:200]}",
            "rows that keep to the lengths, references and characters of the tables",
            "Correct or delete it where it is, and try again.",
        ) from error


def read_counters(connection: Connection, shapes: Sequence[Shape]) -> dict[str, int]:
    """Return the last number that each numbered table has given out, which may be of a row that is gone."""
    counters = {}
    for shape in shapes:
        if not shape.counts_up:
            continue
        if connection.dialect.name == "sqlite":
            query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
            counters[shape.name] = int(connection.scalar(query, {"name": shape.name}) or 0)
        elif sequence := _find_sequence(connection, shape):
            query = text(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")
            counters[shape.name] = int(connection.scalar(query) or 0)
    return counters


def set_counters(connection: Connection, shapes: Sequence[Shape], counters: Mapping[str, int]) -> None:
    """Let numbered tables go on after a number."""
    for shape in shapes:
        last = counters.get(shape.name, 0)
        if not last:
            continue
        if connection.dialect.name == "sqlite":
            given = {"name": shape.name, "last": last}
            if not connection.execute(
                text("UPDATE sqlite_sequence SET seq = :last WHERE name = :name"), given
            ).rowcount:
                connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), given)
        elif sequence := _find_sequence(connection, shape):
            connection.execute(text("SELECT setval(CAST(:name AS regclass), :last)"), {"name": sequence, "last": last})


def _find_sequence(connection: Connection, shape: Shape) -> str | None:
    query = text("SELECT pg_get_serial_sequence(:table, :column)")
    found: str | None = connection.scalar(query, {"table": f'"{shape.name}"', "column": shape.key[0]})
    return found


def tallied(lines: Iterable[str], tally: Tally) -> Iterator[str]:
    """Yield lines and count them."""
    for line in lines:
        tally.add(line)
        yield line


def take_tally(connection: Connection, shape: Shape) -> Tally:
    """Return how many rows a table has and the sum of their hashes."""
    found = Tally()
    for line in read_lines(connection, shape):
        found.add(line)
    return found


def in_blocks(items: Iterable[Item], size: int = CHUNK_ROWS) -> Iterator[list[Item]]:
    """Yield items in lists of a length, the last one shorter."""
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block


def _as_it_is(value: Any) -> Any:
    return value


def _same_numbers(value: Any) -> Any:
    """Write 1e20 and 3.0 as the whole numbers that they are, as PostgreSQL gives them back."""
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))
    if isinstance(value, Mapping):
        return {key: _same_numbers(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_same_numbers(each) for each in value]
    return value
