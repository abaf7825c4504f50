"""Fit how certain a segmentation recipe says to be."""

from dataclasses import asdict
from pathlib import Path

import click

from voxelight.app.cli.recordings import write_json
from voxelight.app.cli.shell import Shell, Verb
from voxelight.app.schemas import Wire


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
@click.option("--keep", is_flag=True, help="Write it into the model, if it was trained or imported here.")
@click.option("--device", help="auto, cpu, cuda or cuda:N; default: the setting of this installation.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the draw of voxels.")
@click.pass_obj
def calibrate(
    shell: Shell, recipe: str, data: Path, out: Path | None, keep: bool, device: str | None, seed: int
) -> None:
    """Fit the temperature of a segmentation recipe on held-out cases.

    Looks at voxels within 3 mm of borders of the references. Use the result by `voxelight segment --temperature`, or
    keep it in the model. Which cases training has seen, nobody but you knows: on those, networks are too certain.
    """
    from voxelight.app.pipelines.segmenters import find_known
    from voxelight.app.provenance import find_device
    from voxelight.medseg.calibrate import calibrate as fit
    from voxelight.medseg.predict import build_segmenter
    from voxelight.storage.formats.cases import read_cases
    from voxelight.storage.trained import TrainedModels

    weights = shell.settings.weights
    models, known = TrainedModels(weights), find_known(weights, recipe)
    if keep:
        models.find(recipe)  # what ships is not written to
    cases = read_cases(data, known.recipe.labels)
    segmenter = build_segmenter(known.recipe, known.load(), find_device(device or shell.settings.device))
    with shell.progress() as progress:
        bar = progress.add_task(f"{recipe} on {len(cases)} cases", total=len(cases))
        found = fit(cases, segmenter, seed, lambda done: progress.update(bar, completed=done))
    facts = asdict(found) | {"recipe": recipe, "cases": len(cases)}
    files = [] if out is None else [write_json(out, facts | {"weights_sha256": known.sha256, "seed": seed})]
    if keep:
        models.set_temperature(recipe, found.temperature, facts)
    answer = CalibrationAnswer(**facts, kept=keep, files=files)
    shell.answer(
        answer,
        f"Temperature {found.temperature:.3f}: expected calibration error near borders {found.ece_before:.4f}, with it "
        f"{found.ece_after:.4f}; negative log-likelihood {found.nll_before:.4f}, with it {found.nll_after:.4f}; "
        f"{found.voxels} voxels of {len(cases)} cases, on which it was fitted.",
    )
