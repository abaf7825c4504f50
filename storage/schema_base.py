"""What every table stands on: names of constraints, types that both databases have, ids and times."""

import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    String,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = JSON().with_variant(JSONB(), "postgresql")
# What begins with a word is a range only where text is compared byte by byte.
BytewiseText = String(80).with_variant(String(80, collation="C"), "postgresql")
Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up by itself in an INTEGER alone


class UtcDateTime(TypeDecorator[datetime]):
    """Times as aware UTC on every database; SQLite keeps no zone of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utc_now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """Let a column hold some words only."""
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=column)


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can name it too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {dict[str, Any]: Json, list[Any]: Json, datetime: UtcDateTime, uuid.UUID: Uuid}


def is_ours(_thing: object, name: str | None, kind: str, reflected: bool, _compare_to: object) -> bool:
    """Leave the tables of the job engine, which share the file on SQLite, out of a comparison of tables."""
    return not (kind == "table" and reflected and name not in Base.metadata.tables)


class Row:
    """What most rows have: an id and the time that they came."""

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4, sort_order=-1)
    created_at: Mapped[datetime] = mapped_column(default=utc_now, sort_order=1)
