"""List models."""

import click

from voxelight.app.cli.shell import Group, Shell


@click.group(cls=Group)
def models() -> None:
    """List the models that have done work."""


@models.command("list")
@click.pass_obj
def list_models(shell: Shell) -> None:
    """List models with the hash of their weights and their licence."""
    from voxelight.app.cli.tables import show_models

    found = shell.services.results.list_models()
    shell.answer(found, show_models(found))
