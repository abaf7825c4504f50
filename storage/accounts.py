"""Accounts, their places in projects and their keys: written, looked up, and turned into a principal."""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.orm import Session

from voxelight.models.errors import Conflict, NotFound, Unauthenticated
from voxelight.storage.access import SCOPES, Principal
from voxelight.storage.audit import note
from voxelight.storage.schema import Account, ApiKey, Membership, Project, utc_now

PAGE_SESSION = timedelta(hours=12)
START = "vxl"
_USED_EVERY = timedelta(minutes=1)  # a write for every request would be one too many


def find_account(session: Session, issuer: str, subject: str) -> Account | None:
    """Return the account that an identity provider calls so; None where there is none or it is disabled."""
    return session.scalar(select(Account).filter_by(issuer=issuer, subject=subject, disabled_at=None))


def find_account_named(session: Session, name: str) -> Account:
    """Return an account by name.

    Raises
    ------
    NotFound
        There is none.
    """
    account = session.scalar(select(Account).where(Account.name == name))
    if account is None:
        raise NotFound(f"no account {name!r}", "one that was added", "Add it: voxelight access accounts add NAME")
    return account


def find_project(session: Session, name: str) -> Project:
    """Return a project by name.

    Raises
    ------
    NotFound
        There is none.
    """
    project = session.scalar(select(Project).where(Project.name == name))
    if project is None:
        raise NotFound(f"no project {name!r}", "one that was added", "Add it: voxelight access projects add NAME")
    return project


def read_principal(session: Session, account: Account) -> Principal:
    """Return an account with its roles, as nobody's key narrows it."""
    roles = session.execute(select(Membership.project, Membership.role).where(Membership.account_id == account.id))
    return Principal(account.name, account.is_admin, {row.project: row.role for row in roles})


def write_key(
    session: Session,
    account: Account,
    name: str,
    scopes: Collection[str] = tuple(SCOPES.values()),
    project: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key; the text is returned this once, and its hash is kept.

    Returns
    -------
    the row, and the key as it is sent: ``vxl_<prefix>_<secret>``, the secret of 256 random bits
    """
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    key = ApiKey(
        account_id=account.id,
        name=name,
        prefix=prefix,
        sha256=_hash(secret),
        scopes=sorted(scopes),
        project=project,
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key, f"{START}_{prefix}_{secret}"


def sign_in(session: Session, account: Account, typed: ApiKey | None = None) -> str:
    """Make a key for one browser, which ends by itself; it may what the key may that was typed, and ends with that."""
    session.execute(delete(ApiKey).where(ApiKey.account_id == account.id, ApiKey.is_page, _is_over(utc_now())))
    scopes, project = (typed.scopes, typed.project) if typed else (tuple(SCOPES.values()), None)
    key, text = write_key(session, account, "page", scopes, project, utc_now() + PAGE_SESSION)
    key.is_page, key.page_of = True, typed.id if typed else None
    note(session, "sign in", f"account {account.id}", by="key" if typed else "provider")
    return text


def find_key(session: Session, text: str) -> ApiKey:
    """Return the key of a text, if it is in force: known, not revoked, not expired, its account not disabled.

    Raises
    ------
    Unauthenticated
        It is not; which of these holds is not said.
    """
    start, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    key = session.scalar(select(ApiKey).where(ApiKey.prefix == prefix)) if start == START else None
    same = hmac.compare_digest(_hash(secret), key.sha256 if key else _hash(""))
    if key is None or not same or not secret or not _is_in_force(session, key):
        raise Unauthenticated(
            "a key that is not in force", "one that is known, not revoked and not expired", "Ask for a new key."
        )
    return key


def authenticate(session: Session, text: str) -> Principal:
    """Return who a key belongs to, and what it leaves of that account's rights; when it was used is kept by minutes.

    Raises
    ------
    Unauthenticated
        As `find_key`.
    """
    key = find_key(session, text)
    now = utc_now()
    if key.last_used_at is None or now - key.last_used_at > _USED_EVERY:
        session.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=now))
    return _narrow(session, key)


def find_holder(session: Session, name: str, prefix: str) -> Principal:
    """Return who made something that this server signed, as that account and its key are now.

    Parameters
    ----------
    session : of the database
    name : of the account
    prefix : of the key that was shown; empty where there was none

    Raises
    ------
    Unauthenticated
        The account is disabled, or the key over.
    """
    account = session.scalar(select(Account).filter_by(name=name, disabled_at=None))
    key = session.scalar(select(ApiKey).where(ApiKey.prefix == prefix)) if prefix else None
    if account is None or (prefix and (key is None or not _is_in_force(session, key))):
        raise Unauthenticated("an account or a key that is over", "one in force", "Ask for it anew.")
    return _narrow(session, key) if key else read_principal(session, account)


def _narrow(session: Session, key: ApiKey) -> Principal:
    whole = read_principal(session, key.account)
    roles = dict(whole.roles)
    if key.project is not None:
        roles = {key.project: "admin"} if whole.admin else {p: role for p, role in roles.items() if p == key.project}
    return Principal(whole.name, whole.admin and key.project is None, roles, frozenset(key.scopes), key.prefix)


def revoke_key(session: Session, key: ApiKey) -> None:
    """End a key, and the sign-ins that were made with it."""
    ended = update(ApiKey).where(or_(ApiKey.id == key.id, ApiKey.page_of == key.id), ApiKey.revoked_at.is_(None))
    session.execute(ended.values(revoked_at=utc_now()))
    note(session, "revoke api_key", f"api_key {key.id}", account_id=str(key.account_id), prefix=key.prefix)


def set_member(session: Session, account: Account, project: str, role: str) -> None:
    """Give an account a role in a project, in place of the one that it had."""
    find_project(session, project)
    there = session.scalar(select(Membership).filter_by(account_id=account.id, project=project))
    if there is None:
        session.add(Membership(account_id=account.id, project=project, role=role))
    else:
        there.role = role
    session.flush()


def refuse_last_admin(session: Session, account: Account) -> None:
    """Refuse to disable the only account that administers the installation over HTTP.

    Raises
    ------
    Conflict
        It is.
    """
    others = select(Account.id).where(Account.is_admin, Account.disabled_at.is_(None), Account.id != account.id)
    if account.is_admin and account.disabled_at is None and session.scalar(others.limit(1)) is None:
        raise Conflict(
            f"{account.name}, the only administrator", "another who stays", "Add an account with --admin first."
        )


def _is_in_force(session: Session, key: ApiKey) -> bool:
    now = utc_now()
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        return False
    if key.account.disabled_at is not None:
        return False
    if key.page_of is None:
        return True
    typed = session.get(ApiKey, key.page_of)
    return typed is not None and _is_in_force(session, typed)


def _is_over(now: datetime) -> ColumnElement[bool]:
    return or_(ApiKey.expires_at <= now, ApiKey.revoked_at.is_not(None))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def find_key_named(session: Session, prefix: str) -> ApiKey:
    """Return a key by its prefix.

    Raises
    ------
    NotFound
        There is none.
    """
    key = session.scalar(select(ApiKey).where(ApiKey.prefix == prefix, ApiKey.is_page.is_(False)))
    if key is None:
        raise NotFound(f"no key {prefix!r}", "the prefix of a key", "List them: voxelight access keys list")
    return key


def list_keys(session: Session, account: uuid.UUID | None = None) -> list[ApiKey]:
    """Return the keys that were made by hand, newest first; of one account, or of all."""
    query = select(ApiKey).where(ApiKey.is_page.is_(False)).order_by(ApiKey.created_at.desc(), ApiKey.id)
    return list(session.scalars(query if account is None else query.where(ApiKey.account_id == account)))
