"""The tables of who may do what: accounts, projects, who belongs to which in what role, and keys of the API."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from voxelight.storage.schema_base import Base, Row, one_of

ROLES = ("viewer", "operator", "reviewer", "admin")  # each may do what the one before it may
DEFAULT_PROJECT = "default"


class Account(Row, Base):
    """A person or a program; `issuer` and `subject` name it as an identity provider does, empty: by keys alone."""

    __tablename__ = "account"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    name: Mapped[str] = mapped_column(String(120), unique=True)
    issuer: Mapped[str | None] = mapped_column(String(400))
    subject: Mapped[str | None] = mapped_column(String(255))
    is_admin: Mapped[bool] = mapped_column(default=False)
    disabled_at: Mapped[datetime | None]


class Project(Row, Base):
    """A group of data sets that are shown to the same people; `dataset.project` names it."""

    __tablename__ = "project"

    name: Mapped[str] = mapped_column(String(120), unique=True)
    note: Mapped[str] = mapped_column(Text, default="")


class Membership(Row, Base):
    """What an account may do with the data sets of a project."""

    __tablename__ = "membership"
    __table_args__ = (UniqueConstraint("account_id", "project"), one_of("role", ROLES), Index(None, "project"))

    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    project: Mapped[str] = mapped_column(ForeignKey("project.name", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(String(16))
    account: Mapped[Account] = relationship()


class ApiKey(Row, Base):
    """A key of the API: its hash alone; `prefix` names it in the open, `scopes` and `project` narrow its account.

    `is_page`: made by a sign-in, for one browser and some hours; `page_of` is the key that was typed there.
    """

    __tablename__ = "api_key"
    __table_args__ = (Index(None, "account_id"),)

    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(120))
    prefix: Mapped[str] = mapped_column(String(16), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[Any]] = mapped_column(default=list)
    project: Mapped[str | None] = mapped_column(ForeignKey("project.name", ondelete="CASCADE"))
    page_of: Mapped[uuid.UUID | None]
    is_page: Mapped[bool] = mapped_column(default=False)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    account: Mapped[Account] = relationship()
