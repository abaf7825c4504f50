"""Accounts, projects, members and keys as they cross a door."""

from datetime import datetime
from typing import Literal

from pydantic import Field, SecretStr

from voxelight.app.schemas import Label, Moment, Sent, Wire

Role = Literal["viewer", "operator", "reviewer", "admin"]
Scope = Literal["read", "write", "review", "admin"]
_ALL_SCOPES: tuple[Scope, ...] = ("read", "write", "review", "admin")


class AccountRequest(Sent):
    """A new account; `issuer` and `subject` say how an identity provider names it."""

    name: Label
    admin: bool = Field(False, description="of the whole installation: accounts, projects, every data set")
    issuer: str | None = Field(None, max_length=400, description="`iss` of the identity provider's tokens")
    subject: str | None = Field(None, max_length=255, description="`sub` of the identity provider's tokens")


class ProjectRequest(Sent):
    """A new project: a group of data sets that are shown to the same people."""

    name: Label
    note: str = Field("", max_length=2000)


class MemberRequest(Sent):
    """What an account may do in a project."""

    role: Role


class KeyRequest(Sent):
    """A new key."""

    account: Label
    name: str = Field("", max_length=120, description="what it is for")
    scopes: tuple[Scope, ...] = Field(_ALL_SCOPES, min_length=1, description="what of the account's roles it may use")
    project: Label | None = Field(None, description="the only project that it opens")
    expires_at: Moment | None = Field(None, description="when it ends; empty: never")


class SignIn(Sent):
    """A key, typed once for one browser."""

    key: SecretStr = Field(max_length=200)


class MeAnswer(Wire):
    """Who asks, and what that account may do."""

    name: str = Field(description="empty where nobody is asked who they are")
    admin: bool
    roles: dict[str, Role] = Field(description="project -> role")
    scopes: list[Scope] = Field(description="what of it the key may use")


class AccountAnswer(Wire):
    """An account."""

    name: str
    admin: bool
    issuer: str | None
    subject: str | None
    disabled_at: datetime | None
    created_at: datetime
    roles: dict[str, Role]


class ProjectAnswer(Wire):
    """A project with the number of its data sets."""

    name: str
    note: str
    datasets: int
    created_at: datetime


class MemberAnswer(Wire):
    """An account in a project."""

    project: str
    account: str
    role: Role


class KeyAnswer(Wire):
    """A key, by its prefix; the secret is not kept."""

    prefix: str
    account: str
    name: str
    scopes: list[Scope]
    project: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime


class NewKeyAnswer(KeyAnswer):
    """A key that was just made, with the text that is shown this once."""

    key: str
