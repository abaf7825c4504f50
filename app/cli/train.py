"""Fit the weights of a segmentation recipe."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxelight.app.cli.answers import TrainAnswer
from voxelight.app.cli.shell import Shell, Verb
from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from voxelight.medseg.recipes.recipe import SegmentationRecipe


@click.command(cls=Verb)
@click.argument("recipe")
@click.option(
    "--data",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with images/ and labels/, whose files go by one name.",
)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for weights and scores.",
)
@click.option(
    "--held-out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Names of cases to score on and not to train on, one a line; keep all cases of a person on one side.",
)
@click.option("--device", help="auto, cpu, cuda or cuda:N; default: the setting of this installation.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every random draw; default: the recipe's.")
@click.option("--steps", type=click.IntRange(min=1), help="Gradient steps; default: the recipe's.")
@click.pass_obj
def train(
    shell: Shell,
    /,
    recipe: str,
    data: Path,
    out: Path,
    held_out: Path | None,
    device: str | None,
    seed: int | None,
    steps: int | None,
) -> None:
    """Fit the weights of a segmentation recipe.

    Writes RECIPE.safetensors in half precision and RECIPE_scores.json with the Dice of every held-out case. Nothing is
    written before the training is over.
    """
    from voxelight.app.provenance import find_device
    from voxelight.app.training import fit_and_score
    from voxelight.medseg.recipes import find_recipe
    from voxelight.storage.formats.cases import read_cases

    chosen = _changed(find_recipe(recipe), seed, steps)
    cases = read_cases(data, chosen.labels)
    names = _read_names(held_out) if held_out else set()
    where = find_device(device or shell.settings.device)
    with shell.progress() as progress:
        bar = progress.add_task(f"{recipe} on {len(cases)} cases", total=100)

        def show(share: float, values: dict[str, float]) -> None:
            said = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            progress.update(bar, completed=round(100 * share), description=f"{recipe}: {said}")

        files = fit_and_score(cases, chosen, names, where, out, show)
