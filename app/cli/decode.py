"""Decode betas with a trained decoder in one go."""

from pathlib import Path
from typing import Any, get_args

import click

from voxelight.app.cli.recordings import find_dataset, grounds, out_folder, work_through
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.schemas import JobRequest
from voxelight.models.errors import NotFound
from voxelight.neuro.profiles.options import GenerationOptions


def _one_of(name: str) -> click.Choice[str]:
    return click.Choice(get_args(GenerationOptions.model_fields[name].annotation))


@click.command(cls=Verb)
@click.argument("dataset")
@click.option("--profile", required=True, help="Which decoder and generators; see voxelight recipes list.")
@out_folder
@click.option("--subject", help="Whose decoder, of those that the profile has; default: its first.")
@click.option("--stop", type=_one_of("stop"), help="Last stage; default: refined.")
@click.option("--samples", type=click.IntRange(min=1), help="Results for each stimulus; default: 1.")
@click.option("--preset", type=_one_of("preset"), help="How pictures are sampled; default: published.")
@click.option("--prior-steps", type=click.IntRange(min=1), help="Steps of the diffusion prior; default: the profile's.")
@click.option("--generator", metavar="NAME", help="Of a linear decoder; first-guess: its ridge to small pictures.")
@click.option("--candidates", type=click.IntRange(min=1), help="Pictures that each result is chosen from; MindEye1.")
@click.option("--dtype", type=_one_of("dtype"), help="Precision of the networks; default: bfloat16.")
@click.option("--batch", type=click.IntRange(min=1), help="Pictures at once; default: what the memory takes.")
@click.option("--memory", type=_one_of("memory"), help="GiB of the card to plan for; default: auto.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of every random draw.")
@grounds
@click.pass_obj
def decode(shell: Shell, /, dataset: str, profile: str, out: Path, seed: int, **wishes: Any) -> None:
    """Decode seen pictures and their captions from betas with a trained decoder.

    DATASET is the name of a stored data set, or the path of a .mat with betas and stimuli, which is stored first.
    Writes pictures/ (stimulus, blurry, unrefined and final picture, retrieved ones), tokens/, captions.json,
    contact_sheet.png, scores.json and provenance.json. Needs no server. Ctrl-C cancels within two denoising steps.
    """
    known = [row.name for row in shell.services.jobs.list_recipes() if row.kind == "decode"]
    if profile not in known:
        raise NotFound(f"no profile {profile!r}", f"one of {', '.join(known)}", "Correct the name.")
    stated = {name: wishes.pop(name) for name in ("consent", "purpose")}
    name = find_dataset(shell.services, dataset, stated)
    options = {name: value for name, value in wishes.items() if value is not None}
    work_through(shell, ask(JobRequest, kind="decode", recipe=profile, dataset=name, seed=seed, options=options), out)
