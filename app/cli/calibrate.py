"""Fit how certain a segmentation recipe says to be."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.recordings import write_json
from voxelight.app.cli.shell import Shell, Verb
from voxelight.app.schemas import Wire
from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from voxelight.medseg.cases import Case
    from voxelight.medseg.predict import Segmenter


class CalibrationAnswer(Wire):
    """A temperature, what it does to the cases that it was fitted on, and where it is kept."""

    recipe: str
    temperature: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    voxels: int
    cases: int
    kept: bool
    files: list[Path]


class UncertaintyAnswer(Wire):
    """What is shown as uncertainty, and the area under the risk-coverage curve of each that there is."""

    recipe: str
    uncertainty: str
    areas: dict[str, float]
    cases: int
    kept: bool
    files: list[Path]


class DiffusionAnswer(Wire):
    """What the diffusion of a cDAL adds: Dice of each condition, and what is lost against the network as it is."""

    recipe: str
    images: int
    dice: dict[str, dict[str, float]]
    loss: dict[str, dict[str, float]]
    cases: int
    files: list[Path]


@click.command(cls=Verb)
@click.argument("recipe")
@click.option(
    "--data",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with images/ and labels/ of cases that training has not seen.",
)
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="JSON with the result.")
@click.option(
    "--uncertainty", is_flag=True, help="Choose instead what says how uncertain a voxel is, by risk-coverage curves."
)
@click.option("--diffusion", is_flag=True, help="Say instead what the diffusion of a cDAL adds to its answer.")
@click.option("--keep", is_flag=True, help="Write it into the model, if it was trained or imported here.")
@click.option("--device", help="auto, cpu, cuda or cuda:N; default: the setting of this installation.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the draw of voxels.")
@click.pass_obj
def calibrate(
    shell: Shell,
    /,
    recipe: str,
    data: Path,
    out: Path | None,
    uncertainty: bool,
    diffusion: bool,
    keep: bool,
    device: str | None,
    seed: int,
) -> None:
    """Fit the temperature of a segmentation recipe on held-out cases.

    Looks at voxels within 3 mm of borders of the references. Use the result by `voxelight segment --temperature`, or
    keep it in the model. With --uncertainty, entropy is kept unless the spread of a cDAL's votes, or that of the folds,
    has a smaller area under its risk-coverage curve than each of the others beyond the interval. With --diffusion, a
    cDAL answers every labelled slice as ever, shown fresh noise or another noisy label in place of its own,
    and in one pass without any. Which cases training has seen, nobody but you knows: on those it is too certain.
    """
    from voxelight.app.pipelines.segmenters import find_known
    from voxelight.app.provenance import find_device
    from voxelight.medseg.calibrate import calibrate as fit
    from voxelight.medseg.predict import build_segmenter
    from voxelight.storage.formats.cases import read_cases
    from voxelight.storage.trained import TrainedModels

    if diffusion and (uncertainty or keep):
        raise BadInput("--diffusion with --uncertainty or --keep", "one question at a time", "Leave out the others.")
    weights = shell.settings.weights
    models, known = TrainedModels(weights), find_known(weights, recipe)
    if keep:
        models.find(recipe)  # what ships is not written to
    cases = read_cases(data, known.recipe.labels)
    segmenter = build_segmenter(known.recipe, known.load(), find_device(device or shell.settings.device))
    if uncertainty:
        return _choose_uncertainty(shell, cases, segmenter, {"out": out, "keep": keep, "seed": seed, "recipe": recipe})
    if diffusion:
        return _audit_diffusion(shell, cases, segmenter, {"out": out, "seed": seed, "weights_sha256": known.sha256})
    with shell.progress() as progress:
        bar = progress.add_task(f"{recipe} on {len(cases)} cases", total=len(cases))
        found = fit(cases, segmenter, seed, lambda done: progress.update(bar, completed=done))
    facts = asdict(found) | {"recipe": recipe, "cases": len(cases)}
    files = [] if out is None else [write_json(out, facts | {"weights_sha256": known.sha256, "seed": seed})]
    if keep:
        models.set_temperature(recipe, found.temperature, facts)
    answer = CalibrationAnswer(**facts, kept=keep, files=files)
    return shell.answer(
        answer,
        f"Temperature {found.temperature:.3f}: expected calibration error near borders {found.ece_before:.4f}, with it "
        f"{found.ece_after:.4f}; negative log-likelihood {found.nll_before:.4f}, with it {found.nll_after:.4f}; "
        f"{found.voxels} voxels of {len(cases)} cases, on which it was fitted.",
    )


def _choose_uncertainty(shell: Shell, cases: "list[Case]", segmenter: "Segmenter", asked: dict[str, Any]) -> None:
    from voxelight.medseg.uncertain import choose_for
    from voxelight.storage.trained import TrainedModels

    recipe, found = asked["recipe"], choose_for(cases, segmenter, seed=asked["seed"])
    areas = ", ".join(f"{kind} {area:.4f}" for kind, area in found.areas.items())
    said = (
        f"Shown: {found.kind}. Mean areas under the risk-coverage curves within 3 mm of borders of {found.cases} "
        f"held-out cases, smaller is better: {areas}. Another than entropy is shown only where its area is smaller "
        "than each of the rest beyond the 95 % interval."
    )
    facts = asdict(found) | {"seed": asked["seed"]}
    files = [] if asked["out"] is None else [write_json(asked["out"], facts | {"recipe": recipe})]
    if asked["keep"]:
        TrainedModels(shell.settings.weights).set_uncertainty(recipe, found.kind, facts, said)
    answer = UncertaintyAnswer(
        recipe=recipe,
        uncertainty=found.kind,
        areas=dict(found.areas),
        cases=found.cases,
        kept=asked["keep"],
        files=files,
    )
    shell.answer(answer, said)


def _audit_diffusion(shell: Shell, cases: "list[Case]", segmenter: "Segmenter", asked: dict[str, Any]) -> None:
    from voxelight.app.cli.tables import make_table
    from voxelight.medseg.audit import audit_segmenter

    found = audit_segmenter(cases, segmenter, seed=asked["seed"])
    dice, loss = (
        {condition: {"mean": each.estimate, "low": each.low, "high": each.high} for condition, each in rows.items()}
        for rows in (found.means, found.gains)
    )
    facts: dict[str, Any] = {"recipe": segmenter.recipe.name, "cases": len(cases), "dice": dice, "loss": loss}
    facts |= {"images": len(found.dice["full"])}
    asked = dict(asked)
    out = asked.pop("out")
    answer = DiffusionAnswer(**facts, files=[] if out is None else [write_json(out, facts | asked)])
    rows = [
        (condition, *(f"{row['mean']:.4f} [{row['low']:.4f}, {row['high']:.4f}]" if row else "" for row in pair))
        for condition, pair in ((name, (each, loss.get(name))) for name, each in dice.items())
    ]
    table = make_table(("the noisy label is", "Dice, 95 %", "lost, 95 %"), rows, f"{answer.images} slices")
    shell.answer(answer, table, "An interval of what is lost that holds zero says that diffusion adds nothing there.")
