"""Submit, follow, cancel, repeat and copy jobs."""

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

import click

from voxelight.app.cli.follow import refuse_unfinished
from voxelight.app.cli.follow import watch as watch_job
from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.schemas import PRIORITIES, JobAnswer, JobRequest, RunAnswer, ScanQuery
from voxelight.app.schemas_jobs import JobChange, JobClone
from voxelight.models.errors import BadInput, NotFound

STATUSES = ("pending", "running", "done", "failed", "cancelled")
JOB_STATUSES = ("queued", *STATUSES[1:])
_WORDS = {word: number for number, word in PRIORITIES.items()}
_LOOK_S = 0.5


@click.group(cls=Group)
def jobs() -> None:
    """Submit, follow, cancel, repeat and copy jobs."""


@jobs.command("list")
@click.option("--dataset", help="Only jobs on this data set.")
@click.option("--status", multiple=True, type=click.Choice(JOB_STATUSES), help="Only of this state; repeat for more.")
@click.option("--limit", default=20, show_default=True, help="Rows, newest first.")
@click.option("--cursor", help="next_cursor of the answer before, for what follows it.")
@click.pass_obj
def list_jobs(shell: Shell, dataset: str | None, status: tuple[str, ...], limit: int, cursor: str | None) -> None:
    """List jobs, newest first."""
    from voxelight.app.cli.tables import show_jobs

    page = shell.services.jobs.list(dataset, limit, cursor, status)
    shell.answer(page, show_jobs(page.items))


@jobs.command("show")
@click.argument("job", type=click.UUID)
@click.pass_obj
def show_job(shell: Shell, job: uuid.UUID) -> None:
    """Show one job with its scores and files."""
    _answer(shell, job)


@jobs.command("runs")
@click.argument("job", type=click.UUID)
@click.option("--status", type=click.Choice(STATUSES), help="Only items of this status.")
@click.option("--traceback", is_flag=True, help="Show where failed items failed.")
@click.pass_obj
def list_runs(shell: Shell, job: uuid.UUID, status: str | None, traceback: bool) -> None:
    """List the items of a job."""
    from voxelight.app.cli.tables import show_runs

    runs = shell.services.jobs.list_runs(job, status)
    shell.answer(runs, show_runs(runs), *(_tracebacks(runs) if traceback else ()))


@jobs.command("submit")
@click.argument("dataset")
@click.option("--recipe", required=True, help="What to do; see voxelight recipes list.")
@click.option("--scan", "scans", multiple=True, type=click.UUID, help="Only this scan; repeat for more.")
@click.option("--subject", help="Only scans of this subject.")
@click.option("--session", help="Only scans of this session.")
@click.option("--name", metavar="PATTERN", help="Only scans of such a name: * for any letters, ? for one.")
@click.option("--queue", type=click.Choice(("cpu", "gpu")), help="Default: gpu where this machine has a card.")
@click.option("--priority", type=click.Choice(list(_WORDS)), default="normal", help="The higher, the sooner.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of every random draw.")
@click.option("--option", "options", multiple=True, metavar="NAME=JSON", help="Option of the recipe; repeat for more.")
@click.option("--key", help="Idempotency key: sent again, it returns the same job.")
@click.pass_obj
def submit(
    shell: Shell,
    /,
    dataset: str,
    recipe: str,
    options: tuple[str, ...],
    priority: str,
    key: str | None,
    **wishes: Any,
) -> None:
    """Submit one recipe over the scans of a data set; a worker or a server carries it out."""
    conditions = {name: wishes.pop(name) for name in ("subject", "session", "name")}
    query = ask(ScanQuery, **conditions) if any(conditions.values()) else None
    request = ask(
        JobRequest,
        kind=find_kind(shell, recipe),
        recipe=recipe,
        dataset=dataset,
        query=query,
        priority=_WORDS[priority],
        options=dict(map(_parse_option, options)),
        **wishes,
    )
    _answer_submitted(shell, shell.services.jobs.submit(request, key))


@jobs.command("curve")
@click.argument("job", type=click.UUID)
@click.option("--since", default=0, show_default=True, type=click.IntRange(min=0), help="First step to show.")
@click.pass_obj
def curve(shell: Shell, job: uuid.UUID, since: int) -> None:
    """Show the curve of a training, as far as it is."""
    from voxelight.app.cli.tables import show_curves

    found = shell.services.trainings.read_curves(job, since)
    shell.answer(found, *show_curves(found))


@jobs.command("clone")
@click.argument("job", type=click.UUID)
@click.option("--recipe", help="Another recipe.")
@click.option("--dataset", help="Another data set.")
@click.option("--queue", type=click.Choice(("cpu", "gpu")), help="Another queue.")
@click.option("--priority", type=click.Choice(list(_WORDS)), help="Another priority.")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed.")
@click.option("--option", "options", multiple=True, metavar="NAME=JSON", help="Changed option; repeat for more.")
@click.option("--key", help="Idempotency key: sent again, it returns the same job.")
@click.pass_obj
def clone(
    shell: Shell, /, job: uuid.UUID, options: tuple[str, ...], priority: str | None, key: str | None, **changes: Any
) -> None:
    """Submit a job again as a new one, with other settings where they are given."""
    if options:
        changes["options"] = shell.services.jobs.find_request(job).options | dict(map(_parse_option, options))
    if priority:
        changes["priority"] = _WORDS[priority]
    given = {name: value for name, value in changes.items() if value is not None}
    _answer_submitted(shell, shell.services.jobs.clone(job, ask(JobClone, **given), key))


@jobs.command("change")
@click.argument("job", type=click.UUID)
@click.option("--priority", required=True, type=click.Choice(list(_WORDS)), help="The higher, the sooner.")
@click.pass_obj
def change(shell: Shell, job: uuid.UUID, priority: str) -> None:
    """Change the priority of a job that waits."""
    shell.services.jobs.change(job, JobChange(priority=_WORDS[priority]))
    _answer(shell, job)


@jobs.command("cancel")
@click.argument("job", type=click.UUID)
@click.pass_obj
def cancel(shell: Shell, job: uuid.UUID) -> None:
    """Stop a job at its next step; what is done stays."""
    shell.services.jobs.cancel(job)
    _answer(shell, job)


@jobs.command("retry")
@click.argument("job", type=click.UUID)
@click.option("--run", "runs", multiple=True, type=click.UUID, help="Only this item; repeat for more.")
@click.pass_obj
def retry(shell: Shell, job: uuid.UUID, runs: tuple[uuid.UUID, ...]) -> None:
    """Run again what failed or was cancelled, and only that."""
    shell.services.jobs.retry(job, runs)
    _answer(shell, job)


@jobs.command("log")
@click.argument("job", type=click.UUID)
@click.option("--follow", is_flag=True, help="Go on until the job is over; Ctrl-C stops the watching, not the job.")
@click.pass_obj
def log(shell: Shell, job: uuid.UUID, follow: bool) -> None:
    """Show what happened to a job, line by line; as JSON one document a line."""
    cursor = None
    while True:
        over = shell.services.jobs.show(job).status in ("done", "failed", "cancelled")
        page = shell.services.jobs.read_log(job, 500, cursor)
        for line in page.items:
            moment = f"{line.at.astimezone():%Y-%m-%d %H:%M:%S}"
            click.echo(line.model_dump_json() if shell.json else f"{moment}  {line.level:7}  {line.message}")
            cursor = line.cursor
        if page.next_cursor is None:
            if over or not follow:
                return
            time.sleep(_LOOK_S)


@jobs.command("watch")
@click.argument("job", type=click.UUID)
@click.pass_obj
def watch(shell: Shell, job: uuid.UUID) -> None:
    """Show how far a job is until it is over; Ctrl-C stops the watching, not the job."""
    ended = watch_job(shell, shell.services.jobs.show(job))
    _answer(shell, job)
    refuse_unfinished(shell, ended)


def find_kind(shell: Shell, recipe: str) -> str:
    """Return which kind of job a recipe is for.

    Raises
    ------
    NotFound
        No recipe has this name.
    """
    kinds = {row.name: row.kind for row in shell.services.jobs.list_recipes()}
    if recipe not in kinds:
        raise NotFound(f"no recipe {recipe!r}", f"one of {', '.join(kinds)}", "Correct the name.")
    return kinds[recipe]


def _answer_submitted(shell: Shell, job: JobAnswer) -> None:
    line = f"Job {job.id} waits on queue {job.queue}, place {job.place}. Follow it: voxelight jobs watch {job.id}"
    shell.answer(job, *job.notes, line)


def _answer(shell: Shell, job_id: uuid.UUID) -> None:
    from voxelight.app.cli.tables import show_job as show

    job = shell.services.jobs.show(job_id)
    shell.answer(job, *show(job))


def _parse_option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise BadInput(f"the option {text!r}", "NAME=VALUE", "Write for example --option permutations=99.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _tracebacks(runs: Sequence[RunAnswer]) -> list[str]:
    return [f"{run.item}\n{run.traceback}" for run in runs if run.traceback]
