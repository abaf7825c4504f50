"""Reconstruct pictures in one go."""

from pathlib import Path
from typing import Any

import click

from voxelight.app.cli.recordings import find_dataset, grounds, out_folder, work_through
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.schemas import JobRequest
from voxelight.models.errors import NotFound


@click.command(cls=Verb)
@click.argument("dataset")
@click.option("--recipe", required=True, help="What to reconstruct; see voxelight recipes list.")
@out_folder
@click.option("--permutations", type=click.IntRange(min=0), help="Draws of the null; default: the recipe's.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed; 0: the recipe's.")
@click.option("--subject", help="Subject, where the data set holds several.")
@grounds
@click.pass_obj
def reconstruct(
    shell: Shell,
    /,
    dataset: str,
    recipe: str,
    out: Path,
    permutations: int | None,
    seed: int,
    subject: str | None,
    **stated: str | None,
) -> None:
    """Reconstruct seen pictures from betas.

    DATASET is the name of a stored data set, or the path of a .mat with betas and stimuli, which is stored first.
    Writes pictures/ (stimulus and reconstruction), contact_sheet.png, scores.json and provenance.json. Only pictures
    that the decoder never saw are reconstructed. Needs no server. Ctrl-C cancels at the next item.
    """
    known = [row.name for row in shell.services.jobs.list_recipes() if row.kind == "reconstruct"]
    if recipe not in known:
        raise NotFound(f"no reconstruction recipe {recipe!r}", f"one of {', '.join(known)}", "Correct the name.")
    name = find_dataset(shell.services, dataset, stated)
    options: dict[str, Any] = {} if permutations is None else {"permutations": permutations}
    query = {"query": {"subject": subject}} if subject else {}
    request = ask(JobRequest, kind="reconstruct", recipe=recipe, dataset=name, seed=seed, options=options, **query)
    work_through(shell, request, out)
