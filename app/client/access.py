"""Who may do what: accounts, projects, members and keys."""

from voxelight.app.client.connection import Connection, path_of, read_params
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
    Role,
)


class Access:
    """Accounts and their rights.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def me(self) -> MeAnswer:
        """Return whose key this client sends, and what it may do."""
        return self._connection.ask(MeAnswer, "GET", "/me")

    def list_accounts(self) -> list[AccountAnswer]:
        """Return every account, by name."""
        return list(self._connection.ask_page(AccountAnswer, "/accounts").items)

    def add_account(self, account: AccountRequest) -> AccountAnswer:
        """Add an account.

        Raises
        ------
        Conflict
            One of that name is there.
        """
        return self._connection.ask(AccountAnswer, "POST", "/accounts", document=account)

    def disable_account(self, name: str) -> AccountAnswer:
        """Let an account and all its keys do nothing more."""
        return self._connection.ask(AccountAnswer, "POST", path_of("accounts", name, "disable"))

    def enable_account(self, name: str) -> AccountAnswer:
        """Let a disabled account and its keys work again."""
        return self._connection.ask(AccountAnswer, "POST", path_of("accounts", name, "enable"))

    def list_projects(self) -> list[ProjectAnswer]:
        """Return every project, by name."""
        return list(self._connection.ask_page(ProjectAnswer, "/projects").items)

    def add_project(self, project: ProjectRequest) -> ProjectAnswer:
        """Add a project.

        Raises
        ------
        Conflict
            One of that name is there.
        """
        return self._connection.ask(ProjectAnswer, "POST", "/projects", document=project)

    def move_dataset(self, dataset: str, project: str) -> DatasetAnswer:
        """Put a data set with everything that hangs on it into a project."""
        return self._connection.ask(DatasetAnswer, "PUT", path_of("projects", project, "datasets", dataset))

    def list_members(self, project: str) -> list[MemberAnswer]:
        """Return who belongs to a project, by name."""
        return list(self._connection.ask_page(MemberAnswer, path_of("projects", project, "members")).items)

    def set_member(self, project: str, account: str, role: Role) -> MemberAnswer:
        """Give an account a role in a project, in place of the one that it had."""
        path, document = path_of("projects", project, "members", account), MemberRequest(role=role)
        return self._connection.ask(MemberAnswer, "PUT", path, document=document)

    def remove_member(self, project: str, account: str) -> None:
        """Take an account out of a project."""
        self._connection.send("DELETE", path_of("projects", project, "members", account))

    def list_keys(self, account: str | None = None) -> list[KeyAnswer]:
        """Return keys by their prefixes, newest first, of one account or of all."""
        return list(self._connection.ask_page(KeyAnswer, "/keys", read_params(account=account)).items)

    def add_key(self, key: KeyRequest) -> NewKeyAnswer:
        """Make a key; its text is in this answer and nowhere else."""
        return self._connection.ask(NewKeyAnswer, "POST", "/keys", document=key)

    def revoke_key(self, prefix: str) -> KeyAnswer:
        """End a key, and the sign-ins that were made with it."""
        return self._connection.ask(KeyAnswer, "DELETE", path_of("keys", prefix))
