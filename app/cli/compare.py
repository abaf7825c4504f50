"""Compare two jobs, or two models."""

import uuid
from typing import Any

import click

from voxelight.app.cli.results import conditions, named
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.schemas import ResultQuery
from voxelight.models.errors import BadInput

_TWO = 2


@click.command(cls=Verb)
@click.argument("jobs", nargs=-1, metavar="[JOB JOB]", type=click.UUID)
@click.option("--model-a", metavar="NAME", help="First model, instead of two jobs.")
@click.option("--model-b", metavar="NAME", help="Second model.")
@click.option("--items", default=10, show_default=True, help="Items shown of each metric, those that differ most.")
@conditions
@click.pass_obj
def compare(
    shell: Shell,
    /,
    jobs: tuple[uuid.UUID, ...],
    model_a: str | None,
    model_b: str | None,
    items: int,
    **query: Any,
) -> None:
    """Compare two jobs, or two models, over what both worked on.

    Shows the mean difference of each metric with its 95 % interval, and the items that differ most. Conditions narrow
    the results of two models.
    """
    from voxelight.app.cli.differences import show_comparison

    service = shell.services.compare
    if len(jobs) == _TWO and not (model_a or model_b):
        answer = service.jobs(jobs[0], jobs[1], items)
    elif model_a and model_b and not jobs:
        answer = service.models(model_a, model_b, ask(ResultQuery, **named(query)), limit=items)
    else:
        raise BadInput(f"{len(jobs)} jobs", "two jobs, or --model-a and --model-b", "Name both sides.")
    shell.answer(answer, *show_comparison(answer))
