"""List recipes."""

from typing import get_args

import click

from voxelight.app.cli.shell import Group, Shell
from voxelight.app.schemas import JobKind
from voxelight.models.errors import NotFound


@click.group(cls=Group)
def recipes() -> None:
    """List what a job can do."""


@recipes.command("list")
@click.option("--kind", type=click.Choice(get_args(JobKind)), help="Only recipes for this kind of job.")
@click.pass_obj
def list_recipes(shell: Shell, kind: str | None) -> None:
    """List the recipes that a job can name."""
    from voxelight.app.cli.tables import show_recipes

    found = [row for row in shell.services.jobs.list_recipes() if kind in (None, row.kind)]
    shell.answer(found, show_recipes(found))


@recipes.command("show")
@click.argument("name")
@click.pass_obj
def show(shell: Shell, name: str) -> None:
    """Show one recipe."""
    from voxelight.app.cli.tables import make_card

    known = {row.name: row for row in shell.services.jobs.list_recipes()}
    if name not in known:
        raise NotFound(f"no recipe {name!r}", f"one of {', '.join(known)}", "Correct the name.")
    shell.answer(known[name], make_card(dict(known[name])))
