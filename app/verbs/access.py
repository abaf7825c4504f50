"""Who may do what: accounts, projects, members and keys."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from voxelight.app.schemas import DatasetAnswer
from voxelight.app.schemas_access import (
    AccountAnswer,
    AccountRequest,
    KeyAnswer,
    KeyRequest,
    MeAnswer,
    MemberAnswer,
    MemberRequest,
    NewKeyAnswer,
    ProjectAnswer,
    ProjectRequest,
)
from voxelight.app.verbs.answers import answer_dataset
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage import accounts
from voxelight.storage.access import Principal, find_principal, seeing_everything
from voxelight.storage.queries import find_dataset
from voxelight.storage.schema import Account, ApiKey, Dataset, Membership, Project, utc_now
from voxelight.storage.stores import Stores


class Access:
    """Accounts and their rights."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def me(self) -> MeAnswer:
        """Return who asks; the shell, and whoever asks where nobody is asked for a key, has no name and may all."""
        with self._stores.sessions() as session:
            principal = find_principal(session)
        who = principal or Principal("", admin=True)
        told = {"name": who.name, "admin": who.admin, "roles": dict(who.roles), "scopes": sorted(who.scopes)}
        return MeAnswer.model_validate(told)

    def add_account(self, request: AccountRequest) -> AccountAnswer:
        """Add an account.

        Raises
        ------
        BadInput
            An issuer without a subject, or the reverse.
        Conflict
            The name is taken, or the identity provider's name for it.
        """
        if (request.issuer is None) != (request.subject is None):
            raise BadInput("an issuer or a subject alone", "both or none", "Take both from a token of that person.")
        with self._adding(f"an account {request.name!r}, or one of that issuer and subject") as session:
            account = Account(name=request.name, is_admin=request.admin, issuer=request.issuer, subject=request.subject)
            session.add(account)
            session.flush()
            return _answer_account(account, {})

    def has_admin(self) -> bool:
        """Return whether anybody administers the installation."""
        with self._stores.sessions() as session:
            admins = select(Account.id).where(Account.is_admin, Account.disabled_at.is_(None))
            return session.scalar(admins.limit(1)) is not None

    def list_accounts(self) -> list[AccountAnswer]:
        """Return every account, by name."""
        with self._stores.sessions() as session:
            roles: dict[object, dict[str, str]] = {}
            for member in session.scalars(select(Membership)):
                roles.setdefault(member.account_id, {})[member.project] = member.role
            found = session.scalars(select(Account).order_by(Account.name))
            return [_answer_account(account, roles.get(account.id, {})) for account in found]

    def disable_account(self, name: str) -> AccountAnswer:
        """Let an account and all its keys do nothing more, from its next request on.

        Raises
        ------
        Conflict
            It is the only administrator.
        """
        with self._stores.sessions.begin() as session:
            account = accounts.find_account_named(session, name)
            accounts.refuse_last_admin(session, account)
            account.disabled_at = account.disabled_at or utc_now()
            return _answer_account(account, accounts.read_principal(session, account).roles)

    def enable_account(self, name: str) -> AccountAnswer:
        """Let a disabled account and its keys work again."""
        with self._stores.sessions.begin() as session:
            account = accounts.find_account_named(session, name)
            account.disabled_at = None
            return _answer_account(account, accounts.read_principal(session, account).roles)

    def add_project(self, request: ProjectRequest) -> ProjectAnswer:
        """Add a project.

        Raises
        ------
        Conflict
            One of that name is there.
        """
        with self._adding(f"a project {request.name!r}") as session:
            project = Project(name=request.name, note=request.note)
            session.add(project)
            session.flush()
            return _answer_project(project, 0)

    def list_projects(self) -> list[ProjectAnswer]:
        """Return every project with the number of its data sets, by name."""
        with self._stores.sessions() as session:
            counts = dict(session.execute(select(Dataset.project, func.count()).group_by(Dataset.project)).all())
            found = session.scalars(select(Project).order_by(Project.name))
            return [_answer_project(project, counts.get(project.name, 0)) for project in found]

    def move_dataset(self, dataset: str, project: str) -> DatasetAnswer:
        """Put a data set with everything that hangs on it into another project.

        Raises
        ------
        NotFound
            There is no such data set or project.
        """
        with self._stores.sessions.begin() as session:
            row = find_dataset(session, dataset)
            row.project = accounts.find_project(session, project).name
            session.flush()
            return answer_dataset(session, row)

    def list_members(self, project: str) -> list[MemberAnswer]:
        """Return who belongs to a project, by name."""
        with self._stores.sessions() as session:
            accounts.find_project(session, project)
            with seeing_everything(session):
                found = select(Membership).where(Membership.project == project).options(joinedload(Membership.account))
                members = sorted(session.scalars(found), key=lambda member: member.account.name)
                return [_answer_member(project, member.account.name, member.role) for member in members]

    def set_member(self, project: str, account: str, request: MemberRequest) -> MemberAnswer:
        """Give an account a role in a project, in place of the one that it had.

        Raises
        ------
        NotFound
            There is no such project or account.
        """
        with self._stores.sessions.begin() as session:
            accounts.find_project(session, project)
            with seeing_everything(session):
                accounts.set_member(session, accounts.find_account_named(session, account), project, request.role)
            return _answer_member(project, account, request.role)

    def remove_member(self, project: str, account: str) -> None:
        """Take an account out of a project.

        Raises
        ------
        NotFound
            There is no such project, or the account is no member of it.
        """
        with self._stores.sessions.begin() as session:
            accounts.find_project(session, project)
            with seeing_everything(session):
                of_name = select(Membership).join(Membership.account).where(Account.name == account)
                member = session.scalar(of_name.where(Membership.project == project))
                if member is None:
                    raise NotFound(f"no member {account!r} of {project!r}", "one of its members", "List the members.")
                session.delete(member)
                session.flush()

    def add_key(self, request: KeyRequest) -> NewKeyAnswer:
        """Make a key; its text is shown this once.

        Raises
        ------
        NotFound
            There is no such account or project.
        BadInput
            It would have ended already.
        """
        if request.expires_at is not None and request.expires_at <= utc_now():
            raise BadInput(f"an end at {request.expires_at.isoformat()}", "a time to come", "Give a later time.")
        with self._stores.sessions.begin() as session:
            account = accounts.find_account_named(session, request.account)
            if request.project is not None:
                accounts.find_project(session, request.project)
            key, text = accounts.write_key(
                session, account, request.name, request.scopes, request.project, request.expires_at
            )
            return NewKeyAnswer(**_answer_key(key).model_dump(), key=text)

    def list_keys(self, account: str | None = None) -> list[KeyAnswer]:
        """Return the keys of an account, or of all, newest first."""
        with self._stores.sessions() as session:
            of = accounts.find_account_named(session, account).id if account is not None else None
            return [_answer_key(key) for key in accounts.list_keys(session, of)]

    def revoke_key(self, prefix: str) -> KeyAnswer:
        """End a key, and the sign-ins that were made with it, from the next request on.

        Raises
        ------
        NotFound
            There is none of that prefix.
        """
        with self._stores.sessions.begin() as session:
            key = accounts.find_key_named(session, prefix)
            accounts.revoke_key(session, key)
            session.refresh(key)
            return _answer_key(key)

    @contextmanager
    def _adding(self, what: str) -> Iterator[Session]:
        try:
            with self._stores.sessions.begin() as session:
                yield session
        except IntegrityError:
            raise Conflict(what, "a new one", "Use the one that is there, or choose another name.") from None


def _answer_account(account: Account, roles: object) -> AccountAnswer:
    return AccountAnswer(
        name=account.name,
        admin=account.is_admin,
        issuer=account.issuer,
        subject=account.subject,
        disabled_at=account.disabled_at,
        created_at=account.created_at,
        roles=roles,  # type: ignore[arg-type]  # checked by pydantic
    )


def _answer_project(project: Project, datasets: int) -> ProjectAnswer:
    return ProjectAnswer(name=project.name, note=project.note, datasets=datasets, created_at=project.created_at)


def _answer_member(project: str, account: str, role: str) -> MemberAnswer:
    return MemberAnswer(project=project, account=account, role=role)  # type: ignore[arg-type]  # checked by pydantic


def _answer_key(key: ApiKey) -> KeyAnswer:
    named = ("account",)
    columns = {name: getattr(key, name) for name in KeyAnswer.model_fields if name not in named}
    return KeyAnswer(**columns, account=key.account.name)
