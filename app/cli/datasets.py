"""Create, list and change data sets; make one to train on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from voxelight.app.cli.intake import CONSENTS
from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.schemas import DatasetAnswer, DatasetChange, DatasetRequest
from voxelight.models.errors import BadInput


def facts(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what can be said of a data set to a command."""
    for option in (
        click.option("--source", help="Where the data come from, with their citation."),
        click.option("--licence", help="Under which terms they may be used."),
        click.option("--purpose", help="What they may be used for; decoding asks for it."),
        click.option("--consent", type=click.Choice(CONSENTS), help="On what ground they may be decoded."),
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def datasets() -> None:
    """Create, list and change data sets."""


@datasets.command("create")
@click.argument("name")
@facts
@click.option("--simulated", is_flag=True, help="Made by a model, not measured.")
@click.option(
    "--keeps-headers", is_flag=True, help="Clinical and local: headers keep who was scanned, nothing can be exported."
)
@click.pass_obj
def create(shell: Shell, /, name: str, simulated: bool, keeps_headers: bool, **given: Any) -> None:
    """Create a data set."""
    request = ask(DatasetRequest, name=name, simulated=simulated, keeps_headers=keeps_headers, **_stated(given))
    _answer(shell, shell.services.datasets.create(request))


@datasets.command("list")
@click.option("--limit", default=50, show_default=True, help="Rows, newest first.")
@click.option("--cursor", help="next_cursor of the answer before, for what follows it.")
@click.pass_obj
def list_datasets(shell: Shell, limit: int, cursor: str | None) -> None:
    """List data sets, newest first."""
    from voxelight.app.cli.tables import show_datasets

    page = shell.services.datasets.list(limit, cursor)
    shell.answer(page, show_datasets(page.items))


@datasets.command("show")
@click.argument("name")
@click.pass_obj
def show(shell: Shell, name: str) -> None:
    """Show one data set."""
    _answer(shell, shell.services.datasets.show(name))


@datasets.command("change")
@click.argument("name")
@facts
@click.option("--version", type=int, help="Only if the data set still has this version.")
@click.pass_obj
def change(shell: Shell, /, name: str, version: int | None, **given: Any) -> None:
    """Change what is set on a data set."""
    stated = _stated(given)
    if not stated:
        raise BadInput("nothing to change", "one of --consent, --purpose, --licence, --source", "Say what to set.")
    _answer(shell, shell.services.datasets.change(name, ask(DatasetChange, **stated), version))


@datasets.command("from-reviews")
@click.argument("name")
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="New folder."
)
@click.option("--recipe", help="Only results of this recipe.")
@click.pass_obj
def from_reviews(shell: Shell, name: str, out: Path, recipe: str | None) -> None:
    """Write what people accepted or corrected as a folder to train on.

    Makes images/, labels/, groups.csv (case and subject, for voxelight train --groups) and training_set.json with the
    provenance of every case. An accepted label map is the network's own: training on it teaches the network what it
    knows already, corrections teach more.
    """
    from voxelight.app.verbs.training_sets import list_kinds, write_training_set

    answer = write_training_set(shell.services.stores, name, out, recipe)
    left = "".join(f"; {count} left out: {reason}" for reason, count in answer.left_out.items())
    shell.answer(
        answer, f"{len(answer.cases)} cases in {out}: {', '.join(list_kinds(answer.cases))}{left}. {answer.notice}"
    )


def _stated(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _answer(shell: Shell, dataset: DatasetAnswer) -> None:
    from voxelight.app.cli.tables import make_card

    shell.answer(dataset, make_card(dict(dataset)))
