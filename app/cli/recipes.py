"""List recipes."""

from typing import get_args

import click

from voxelight.app.cli.shell import Group, Shell
from voxelight.app.schemas import JobKind


@click.group(cls=Group)
def recipes() -> None:
    """List what a job can do."""


@recipes.command("list")
@click.option("--kind", type=click.Choice(get_args(JobKind)), help="Only recipes for this kind of job.")
@click.pass_obj
def list_recipes(shell: Shell, kind: str | None) -> None:
    """List the recipes that a job can name."""
    from voxelight.app.cli.tables import show_recipes

    found = [row for row in shell.services.recipes.list() if kind in (None, row.kind)]
    shell.answer(found, show_recipes(found))


@recipes.command("show")
@click.argument("name")
@click.pass_obj
def show(shell: Shell, name: str) -> None:
    """Show one recipe with the card of its model and what an item takes."""
    from rich.markdown import Markdown

    from voxelight.app.cli.tables import make_card, show_costs

    recipe = shell.services.recipes.show(name)
    facts = recipe.model_dump(exclude={"card", "costs", "options", "warnings"})
    card = [Markdown(recipe.card)] if recipe.card else []
    shell.answer(recipe, make_card(facts | {"mind": " ".join(recipe.warnings)}), show_costs(recipe.costs), *card)
