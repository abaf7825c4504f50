"""Who may do what: accounts, projects, members and keys, from the shell of the machine, which may do everything."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

import click

from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.schemas_access import (
    AccountRequest,
    KeyRequest,
    MemberRequest,
    ProjectRequest,
    Role,
    Scope,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from voxelight.app.schemas_access import AccountAnswer, KeyAnswer, MemberAnswer, ProjectAnswer

Row = tuple[str, ...]


@click.group(cls=Group)
def access() -> None:
    """Say who may do what, and make keys."""


@access.group("accounts", cls=Group)
def accounts() -> None:
    """Add, list and disable accounts."""


@accounts.command("add")
@click.argument("name")
@click.option("--admin", is_flag=True, help="Of the whole installation: accounts, projects, every data set.")
@click.option("--issuer", help="`iss` of the identity provider's tokens.")
@click.option("--subject", help="`sub` of the identity provider's tokens.")
@click.pass_obj
def add_account(shell: Shell, name: str, admin: bool, issuer: str | None, subject: str | None) -> None:
    """Add an account; it may do nothing until it is a member of a project, or an administrator."""
    asked = ask(AccountRequest, name=name, admin=admin, issuer=issuer, subject=subject)
    _show_accounts(shell, [shell.services.access.add_account(asked)])


@accounts.command("list")
@click.pass_obj
def list_accounts(shell: Shell) -> None:
    """List accounts with their roles."""
    _show_accounts(shell, shell.services.access.list_accounts())


@accounts.command("disable")
@click.argument("name")
@click.pass_obj
def disable_account(shell: Shell, name: str) -> None:
    """Let an account and all its keys do nothing more."""
    _show_accounts(shell, [shell.services.access.disable_account(name)])


@accounts.command("enable")
@click.argument("name")
@click.pass_obj
def enable_account(shell: Shell, name: str) -> None:
    """Let a disabled account and its keys work again."""
    _show_accounts(shell, [shell.services.access.enable_account(name)])


@access.group("projects", cls=Group)
def projects() -> None:
    """Add and list projects, and put data sets into them."""


@projects.command("add")
@click.argument("name")
@click.option("--note", default="", help="What it is about.")
@click.pass_obj
def add_project(shell: Shell, name: str, note: str) -> None:
    """Add a project: a group of data sets that are shown to the same people."""
    _show_projects(shell, [shell.services.access.add_project(ask(ProjectRequest, name=name, note=note))])


@projects.command("list")
@click.pass_obj
def list_projects(shell: Shell) -> None:
    """List projects."""
    _show_projects(shell, shell.services.access.list_projects())


@projects.command("take")
@click.argument("project")
@click.argument("dataset")
@click.pass_obj
def take(shell: Shell, project: str, dataset: str) -> None:
    """Put a data set with everything that hangs on it into a project."""
    answer = shell.services.access.move_dataset(dataset, project)
    shell.answer(answer, f"{answer.name} is in {answer.project}")


@access.group("members", cls=Group)
def members() -> None:
    """Say who belongs to a project, and in what role."""


@members.command("list")
@click.argument("project")
@click.pass_obj
def list_members(shell: Shell, project: str) -> None:
    """List who belongs to a project."""
    _show_members(shell, shell.services.access.list_members(project))


@members.command("set")
@click.argument("project")
@click.argument("account")
@click.argument("role", type=click.Choice(get_args(Role)))
@click.pass_obj
def set_member(shell: Shell, project: str, account: str, role: Role) -> None:
    """Give an account a role in a project, in place of the one that it had."""
    _show_members(shell, [shell.services.access.set_member(project, account, ask(MemberRequest, role=role))])


@members.command("remove")
@click.argument("project")
@click.argument("account")
@click.pass_obj
def remove_member(shell: Shell, project: str, account: str) -> None:
    """Take an account out of a project."""
    shell.services.access.remove_member(project, account)
    _show_members(shell, shell.services.access.list_members(project))


@access.group("keys", cls=Group)
def keys() -> None:
    """Make, list and revoke keys."""


@keys.command("add")
@click.argument("account")
@click.option("--name", default="", help="What it is for.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(get_args(Scope)), help="May repeat; none: all.")
@click.option("--project", help="The only project that it opens.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Until it ends; never, if left out.")
@click.pass_obj
def add_key(
    shell: Shell, account: str, name: str, scopes: tuple[Scope, ...], project: str | None, days: float | None
) -> None:
    """Make a key, which is printed this once: the database keeps its hash alone."""
    end = None if days is None else datetime.now(UTC) + timedelta(days=days)
    asked = ask(
        KeyRequest, account=account, name=name, scopes=scopes or get_args(Scope), project=project, expires_at=end
    )
    answer = shell.services.access.add_key(asked)
    shell.note("Keep it: it is not shown again.")
    shell.answer(answer, answer.key)


@keys.command("list")
@click.argument("account", required=False)
@click.pass_obj
def list_keys(shell: Shell, account: str | None) -> None:
    """List keys by their prefixes, of one account or of all."""
    _show_keys(shell, shell.services.access.list_keys(account))


@keys.command("revoke")
@click.argument("prefix")
@click.pass_obj
def revoke_key(shell: Shell, prefix: str) -> None:
    """End a key, and the sign-ins that were made with it."""
    _show_keys(shell, [shell.services.access.revoke_key(prefix)])


def _show_accounts(shell: Shell, found: "list[AccountAnswer]") -> None:
    def rows() -> Iterable[Row]:
        for each in found:
            roles = ", ".join(f"{role} in {project}" for project, role in sorted(each.roles.items()))
            yield each.name, "everything" if each.admin else roles, "disabled" if each.disabled_at else ""

    _show(shell, found, ("account", "may", ""), rows())


def _show_projects(shell: Shell, found: "list[ProjectAnswer]") -> None:
    rows = ((each.name, str(each.datasets), each.note) for each in found)
    _show(shell, found, ("project", "data sets", "note"), rows)


def _show_members(shell: Shell, found: "list[MemberAnswer]") -> None:
    _show(shell, found, ("project", "account", "role"), ((each.project, each.account, each.role) for each in found))


def _show_keys(shell: Shell, found: "list[KeyAnswer]") -> None:
    def rows() -> Iterable[Row]:
        for each in found:
            ends = f"{each.expires_at:%Y-%m-%d %H:%M}" if each.expires_at else "never"
            used = f"{each.last_used_at:%Y-%m-%d %H:%M}" if each.last_used_at else "never"
            ends = "revoked" if each.revoked_at else ends
            yield each.prefix, each.account, each.name, " ".join(each.scopes), each.project or "all", ends, used

    _show(shell, found, ("key", "account", "for", "scopes", "project", "ends", "last used"), rows())


def _show(shell: Shell, found: "Sequence[BaseModel]", titles: tuple[str, ...], rows: Iterable[Row]) -> None:
    from voxelight.app.cli.tables import make_table

    shell.answer(found, make_table(titles, rows))
