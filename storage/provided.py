"""Accounts of people whom an identity provider names."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.models.errors import Conflict, Unauthenticated
from voxelight.storage.accounts import find_account, set_member
from voxelight.storage.schema import Account, Membership


def find_provided(session: Session, issuer: str, subject: str, name: str, roles: Mapping[str, str]) -> Account:
    """Return the account of a person; made on the first sign-in where a group gives a role.

    Parameters
    ----------
    session : of the database
    issuer, subject : how the provider names the person
    name : what a new account is called
    roles : project -> role that groups give, empty for none; what is there is brought in line

    Raises
    ------
    Unauthenticated
        There is no account, or it is disabled, and no group gives a role.
    Conflict
        A new account would have a name that is taken.
    """
    account = find_account(session, issuer, subject)
    if account is None:
        account = _add(session, issuer, subject, name, any(roles.values()))
    for project, role in roles.items():
        there = session.scalar(select(Membership).filter_by(account_id=account.id, project=project))
        if role and (there is None or there.role != role):
            set_member(session, account, project, role)
        elif not role and there is not None:
            session.delete(there)
    session.flush()
    return account


def _add(session: Session, issuer: str, subject: str, name: str, has_role: bool) -> Account:
    known = session.scalar(select(Account).filter_by(issuer=issuer, subject=subject))
    if known is not None or not has_role:
        raise Unauthenticated(
            "a person without an account" if known is None else "an account that is disabled",
            "an account for this issuer and subject, or a group that VOXELIGHT_OIDC_ROLES names",
            f"Ask an administrator: voxelight access accounts add NAME --issuer {issuer} --subject {subject}",
        )
    if session.scalar(select(Account.id).where(Account.name == name)) is not None:
        raise Conflict(
            "an account of the name that the provider gives, which belongs to somebody else",
            "a name of its own",
            f"Ask an administrator: voxelight access accounts add NAME --issuer {issuer} --subject {subject}",
        )
    account = Account(name=name, issuer=issuer, subject=subject)
    session.add(account)
    session.flush()
    return account
