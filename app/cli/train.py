"""Fit the weights of a segmentation recipe."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import TrainAnswer
from voxelight.app.cli.recordings import write_json
from voxelight.app.cli.shell import Shell, Verb
from voxelight.app.schemas import NOTICE

if TYPE_CHECKING:
    from voxelight.medseg.cases import Case
    from voxelight.medseg.recipes.recipe import SegmentationRecipe
    from voxelight.medseg.splits import Split
    from voxelight.medseg.train import State

HELD_OUT = 0
_DIR = click.Path(path_type=Path, file_okay=False)


@click.command(cls=Verb)
@click.argument("recipe")
@click.option(
    "--data", required=True, metavar="DIR", type=_DIR, help="Folder with images/ and labels/ of one name a case."
)
@click.option("--out", required=True, metavar="DIR", type=_DIR, help="Folder for weights and scores.")
@click.option("--everything", is_flag=True, help="Hold nothing out, and score nothing.")
@click.option("--device", help="auto, cpu, cuda or cuda:N; default: the setting of this installation.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every random draw; default: the recipe's.")
@click.option("--steps", type=click.IntRange(min=1), help="Gradient steps; default: the recipe's.")
@click.pass_obj
def train(
    shell: Shell, /, recipe: str, data: Path, out: Path, everything: bool, device: str | None, **changes: int | None
) -> None:
    """Fit the weights of a segmentation recipe.

    Holds out the first fold of the recorded split, or of one drawn with each case a person of its own, and scores it.
    Writes RECIPE.safetensors in half precision and RECIPE_scores.json once everything is done.
    """
    from voxelight.app.provenance import find_device
    from voxelight.medseg.recipes import find_recipe
    from voxelight.medseg.splits import find_split
    from voxelight.storage.formats.cases import read_cases

    chosen = _change(find_recipe(recipe), **changes)
    cases = read_cases(data, chosen.labels)
    split = find_split(recipe, [case.name for case in cases], chosen.seed)
    held_out = set() if everything else set(split.folds[HELD_OUT])
    where = find_device(device or shell.settings.device)
    state = _fit(shell, [case for case in cases if case.name not in held_out], chosen, where)
    scores = _score([case for case in cases if case.name in held_out], chosen, state, where, split)
    files = _write(out, chosen, state, scores | {"device": where, "trained_on": len(cases) - len(held_out)})
    means = {label: interval["estimate"] for label, interval in scores["dice"].items()}
    said = ", ".join(f"{label} {value:.3f}" for label, value in means.items()) or "nothing held out"
    shell.answer(
        TrainAnswer(files=files, dice=means),
        f"Trained on {len(cases) - len(held_out)} cases. Dice over {len(held_out)} held-out cases: {said}",
        *map(str, files),
    )


def _change(recipe: "SegmentationRecipe", seed: int | None, steps: int | None) -> "SegmentationRecipe":
    from voxelight.medseg.train import trainable

    training = trainable(recipe)
    if steps is not None:  # a trial does not settle for longer than it is trained
        shorter = {"steps": steps, "settling": min(steps, training.settling)}
        training = training.model_copy(update=shorter)
    return recipe.model_copy(update={"seed": recipe.seed if seed is None else seed, "training": training})


def _fit(shell: Shell, cases: "Sequence[Case]", recipe: "SegmentationRecipe", device: str) -> "State":
    """Fit under a bar; weights in half precision, as they are stored and scored."""
    from voxelight.medseg.train import fit

    with shell.progress() as progress:
        bar = progress.add_task(f"{recipe.name} on {len(cases)} cases", total=100)

        def show(share: float, values: dict[str, float]) -> None:
            said = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            progress.update(bar, completed=round(100 * share), description=f"{recipe.name}: {said}")

        state = fit(cases, recipe, device, show)
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def _score(
    cases: "Sequence[Case]", recipe: "SegmentationRecipe", state: "State", device: str, split: "Split"
) -> dict[str, Any]:
    """Score held-out cases: Dice by case, and its mean over persons with an interval; undefined ones are left out."""
    from voxelight.medseg.evaluate import dice_by_case, mean_by_person
    from voxelight.medseg.segment import build_segmenter, segment

    segmenter = build_segmenter(recipe, state, device)
    found = [segment(case.volume, segmenter).array for case in cases]
    rows = dice_by_case(found, [case.labels.array for case in cases], recipe.labels)
    by_case = {
        case.name: {label: value for label, value in row.items() if not math.isnan(value)}
        for case, row in zip(cases, rows, strict=True)
    }
    by_label = {
        label: {name: row[label] for name, row in by_case.items() if label in row} for label in recipe.labels.values()
    }
    dice = {
        label: asdict(mean_by_person(scores, split.person_of, recipe.seed))
        for label, scores in by_label.items()
        if scores
    }
    return {"dice": dice, "by_case": by_case, "held_out": len(cases)}


def _write(out: Path, recipe: "SegmentationRecipe", state: "State", scores: dict[str, Any]) -> list[Path]:
    from safetensors.torch import save

    from voxelight.app.provenance import find_revision
    from voxelight.storage.formats.streams import replacing

    content = save({name: value.contiguous() for name, value in state.items()}, metadata={"recipe": recipe.name})
    out.mkdir(parents=True, exist_ok=True)
    weights = out / f"{recipe.name}.safetensors"
    with replacing(weights) as file:
        file.write(content)
    facts = {
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "revision": find_revision(),
        "recipe": recipe.model_dump(mode="json"),
        "notice": NOTICE,
    }
    return [weights, write_json(out / f"{recipe.name}_scores.json", scores | facts)]
