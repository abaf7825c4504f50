"""The table of what was done, by whom: appended to, never changed."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from voxelight.storage.schema_base import Base


class AuditEvent(Base):
    """One event; its hash covers it and the hash of the event before. Ids and hashes only, so nobody is named in it."""

    __tablename__ = "audit_event"
    __table_args__ = (Index(None, "target"),)

    # Counted by the log itself: a number that a transaction took and never wrote would look like a missing event.
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(120))
    action: Mapped[str] = mapped_column(String(80))
    target: Mapped[str] = mapped_column(String(120))
    detail: Mapped[dict[str, Any]]
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
