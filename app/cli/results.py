"""Query and export what came out."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.schemas import JobKind, ResultQuery, Verdict
from voxelight.models.errors import BadInput, NotFound


def conditions(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the conditions of a query to a command."""
    for option in (
        click.option(
            "--sort",
            metavar="ORDER",
            help="time, subject, or a metric: NAME or NAME[LABEL]; with - before it descending. Default: -time.",
        ),
        click.option("--words", help="Only results with these words in captions or names of stimuli."),
        click.option(
            "--metric",
            multiple=True,
            metavar="NAME:LOW..HIGH",
            help="Only results with such a value, NAME[LABEL]:LOW..HIGH for one label; may be repeated.",
        ),
        click.option("--verdict", type=click.Choice(get_args(Verdict)), help="Only results with this verdict."),
        click.option("--simulated/--measured", default=None, help="Only results of simulated, or of measured data."),
        click.option("--recipe", help="Only results of this recipe."),
        click.option("--scan", metavar="NAME", help="Only results of scans of this name, or pattern with *."),
        click.option("--session", help="Only results of this session."),
        click.option("--until", metavar="TIME", help="Finished before this time; UTC where no offset is given."),
        click.option("--since", metavar="TIME", help="Finished at this time or later; UTC where no offset is given."),
        click.option("--job", type=click.UUID, help="Only results of this job."),
        click.option("--kind", type=click.Choice(get_args(JobKind)), help="Only results of this kind."),
        click.option("--model", help="Only results of this model."),
        click.option("--subject", help="Only results of this subject."),
        click.option("--dataset", help="Only results of this data set."),
    ):
        command = option(command)
    return command


def named(query: dict[str, Any]) -> dict[str, Any]:
    """Return the conditions that were named."""
    return {name: value for name, value in query.items() if value not in (None, ())}


@click.group(cls=Group)
def results() -> None:
    """Query and export what came out."""


@results.command("list")
@conditions
@click.option("--search", metavar="SLUG", help="A saved search; a condition beside it takes the place of its own.")
@click.option("--limit", default=50, show_default=True, help="Rows.")
@click.option("--cursor", help="next_cursor of the answer before, for what follows it.")
@click.pass_obj
def list_results(shell: Shell, /, search: str | None, limit: int, cursor: str | None, **query: Any) -> None:
    """List results that fit every condition, newest first unless sorted."""
    from voxelight.app.cli.tables import show_results

    saved = shell.services.searches.read(search).model_dump(exclude_unset=True) if search else {}
    page = shell.services.results.query(ask(ResultQuery, **saved | named(query)), limit, cursor)
    shell.answer(page, show_results(page.items))
    if page.next_cursor:
        shell.note(f"There are more: --cursor {page.next_cursor}")


@results.command("show")
@click.argument("run", type=click.UUID)
@click.pass_obj
def show(shell: Shell, run: uuid.UUID) -> None:
    """Show one result with its scores and files."""
    from voxelight.app.cli.tables import show_result

    result = shell.services.results.show(run)
    shell.answer(result, *show_result(result))


@results.command("export")
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=click.UUID)
@conditions
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write.",
)
@click.pass_obj
def export(shell: Shell, /, runs: tuple[uuid.UUID, ...], out: Path, **query: Any) -> None:
    """Write the files of results, each result into a folder of its own.

    Give ids of runs, or conditions; with neither, everything is written.
    """
    if runs and named(query):
        raise BadInput("both runs and conditions", "one of the two", "Leave one out.")
    service = shell.services.results
    chosen = [service.show(run) for run in runs] if runs else list(service.walk(ask(ResultQuery, **named(query))))
    if not chosen:
        raise NotFound("no result that fits", "at least one", "Loosen the conditions: voxelight results list")
    files = [
        path
        for result in chosen
        for path in service.export(result.artifacts, out / str(result.job) / result.item.replace("/", "_"))
    ]
    shell.answer(FilesAnswer(files=files), f"{len(files)} files of {len(chosen)} results in {out}")
