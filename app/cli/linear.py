"""Fit linear decoders, and predict, caption and reconstruct with them."""

import json
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.recordings import out_folder, work_through
from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.schemas import JobRequest
from voxelight.neuro.training.recorded import HeldOutWay

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_NEW = click.Path(path_type=Path)


class LinearRow(BaseModel):
    """A linear decoder that can be fitted."""

    name: str
    title: str
    targets: list[str]
    generators: list[str]


@click.group(cls=Group)
def linear() -> None:
    """Fit linear decoders, and predict, caption and reconstruct with them."""


@linear.command("list")
@click.pass_obj
def list_linear(shell: Shell) -> None:
    """List the published linear decoders, their targets and their generators."""
    from voxelight.app.cli.tables import make_table
    from voxelight.neuro.linear import find_linear_recipe, list_linear_recipes

    rows = [
        LinearRow(name=one.name, title=one.title, targets=list(one.targets), generators=list(one.generators))
        for one in map(find_linear_recipe, list_linear_recipes())
    ]
    table = ((row.name, row.title, ", ".join(row.targets), ", ".join(row.generators)) for row in rows)
    shell.answer(rows, make_table(("name", "title", "targets", "generators"), table))


@linear.command("targets")
@click.argument("recipe")
@click.argument("space")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("folder", type=_NEW)
@click.option("--device", default="auto", show_default=True, help="Where a network encodes.")
@click.pass_obj
def make_targets(shell: Shell, /, recipe: str, space: str, source: Path, folder: Path, device: str) -> None:
    """Make the targets of one space for training pictures.

    SOURCE is a folder of pictures or an array of them; for clip-text, JSON of picture and caption.
    """
    from voxelight.app.linear import make_targets as make

    count = make(recipe, space, source, folder, shell.settings.weights, device)
    shell.answer(FilesAnswer(files=[folder]), f"{count} targets of {space} in {folder}")


@linear.command("fit")
@click.argument("recipe")
@click.argument("betas", type=_FILE)
@click.argument("stimuli", type=_FILE)
@click.argument("folder", type=_NEW)
@click.option(
    "--targets",
    multiple=True,
    required=True,
    nargs=2,
    metavar="SPACE FOLDER",
    help="A space and the folder of its targets; may be repeated.",
)
@click.option("--device", default="auto", show_default=True, help="Where to fit.")
@click.option(
    "--precision",
    type=click.Choice(["float64", "float32", "tf32"]),
    default="float32",
    show_default=True,
    help="Of products with targets.",
)
@click.option("--simulated", is_flag=True, help="The betas are simulated.")
@click.pass_obj
def fit_linear(
    shell: Shell,
    /,
    recipe: str,
    betas: Path,
    stimuli: Path,
    folder: Path,
    targets: tuple[tuple[str, str], ...],
    device: str,
    precision: str,
    simulated: bool,
) -> None:
    """Fit a linear decoder to training betas.

    BETAS is a .npy (trial, voxel) of training trials alone, floats; STIMULI the picture of each, a line each or a .npy.
    """
    from voxelight.app.cli.tables import make_table
    from voxelight.app.linear import FitWishes, fit
    from voxelight.app.provenance import find_device

    where = {space: Path(path) for space, path in targets}
    wishes = FitWishes(recipe, betas, stimuli, where, precision, simulated)
    with shell.progress() as progress:
        bar = progress.add_task("Fitting", total=None)
        facts = fit(
            wishes, folder, find_device(device), lambda done, total: progress.update(bar, completed=done, total=total)
        )
    rows = (
        (space, " x ".join(map(str, one.shape)), ", ".join(map(str, one.alphas))) for space, one in facts.spaces.items()
    )
    shell.answer(facts, make_table(("space", "target", "penalty"), rows, f"{facts.trials} trials of {facts.stimuli}"))


@linear.command("train")
@click.argument("recipe")
@click.argument("dataset")
@out_folder
@click.option("--name", help="Of the decoder, for voxelight decode --profile; default: made from the recipe.")
@click.option("--subject", help="Label of the subject, where the data set has several.")
@click.option("--space", "spaces", multiple=True, help="To fit; may be repeated. Default: all that can be made here.")
@click.option("--captions", type=_FILE, help="JSON of stimulus and caption, for the space clip-text.")
@click.option("--sessions", type=click.IntRange(min=1), help="First sessions that are fitted to; default: all.")
@click.option("--held-out", type=click.Choice(get_args(HeldOutWay)), help="Pictures that are kept for the test.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="0: the recipe's.")
@click.pass_obj
def train_linear(
    shell: Shell, /, recipe: str, dataset: str, out: Path, seed: int, captions: Path | None, **wishes: Any
) -> None:
    """Fit a linear decoder to a stored data set: targets are made once, held-out pictures are scored.

    The decoder becomes a model of the installation: voxelight decode DATASET --profile NAME.
    """
    from voxelight.storage.formats.captions import read_decoded_captions

    options = {name: list(value) if name == "spaces" else value for name, value in wishes.items() if value}
    options |= {} if captions is None else {"captions": read_decoded_captions(captions)}
    request = ask(
        JobRequest, kind="train-linear", recipe=f"train-{recipe}", dataset=dataset, seed=seed, options=options
    )
    work_through(shell, request, out)


@linear.command("predict")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("betas", type=_FILE)
@click.argument("space")
@click.argument("out", type=_NEW)
@click.option("--stimuli", type=_FILE, help="Of each trial: betas of one stimulus are averaged first.")
@click.pass_obj
def predict_linear(shell: Shell, /, folder: Path, betas: Path, space: str, out: Path, stimuli: Path | None) -> None:
    """Predict one space from betas; a single trial is enough. Writes a .npz with values and ids."""
    import numpy as np

    from voxelight.app.linear import predict
    from voxelight.storage.formats.streams import replacing

    values, ids = predict(folder, betas, space, stimuli)
    with replacing(out) as file:
        np.savez(file, values=values, ids=np.array(ids))
    shell.answer(FilesAnswer(files=[out]), f"{len(ids)} predictions of {space} in {out}")


@linear.command("caption")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("betas", type=_FILE)
@click.argument("out", type=_NEW)
@click.option("--stimuli", type=_FILE, help="Of each trial: betas of one stimulus are averaged first.")
@click.option("--device", default="auto", show_default=True, help="Where GIT captions.")
@click.pass_obj
def caption_linear(shell: Shell, /, folder: Path, betas: Path, out: Path, stimuli: Path | None, device: str) -> None:
    """Caption what was seen, as JSON that voxelight captions score reads."""
    from voxelight.app.linear import caption
    from voxelight.storage.formats.streams import replacing

    told = caption(folder, betas, shell.settings.weights, device, stimuli)
    with replacing(out) as file:
        file.write(json.dumps(told, indent=2).encode())
    shell.answer(
        FilesAnswer(files=[out]), f"{len(told)} captions in {out}. A model's estimates, not a record of thought."
    )


@linear.command("pictures")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("betas", type=_FILE)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--generator", help="Of the decoder; default: its first. See voxelight linear list.")
@click.option("--checkpoint", help="Folder or name on the hub, in place of the published generator.")
@click.option("--control", "controls", multiple=True, help="The same of a ControlNet, depth first; may be repeated.")
@click.option("--captions", type=_FILE, help="JSON of stimulus and caption.")
@click.option("--guesses", type=_FILE, help=".npz of images and ids to begin from; default: the space pixels-64.")
@click.option("--depths", type=_FILE, help=".npz of depth maps and ids, for ControlNets.")
@click.option("--stimuli", type=_FILE, help="Of each trial: betas of one stimulus are averaged first.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of every picture.")
@click.option("--device", default="auto", show_default=True, help="Where to generate.")
@click.pass_obj
def make_pictures(shell: Shell, /, folder: Path, betas: Path, out: Path, device: str, **wishes: Any) -> None:
    """Make pictures of what was seen.

    The networks of the hierarchical VAE are not part of Voxelight, so a first guess is the ridge to small pictures, or
    one that you bring.
    """
    from voxelight.app.linear_pictures import PictureWishes
    from voxelight.app.linear_pictures import make_pictures as make
    from voxelight.storage.formats.images import encode_png
    from voxelight.storage.formats.streams import replacing

    made = make(folder, betas, PictureWishes(**wishes), device)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, picture in made.items():
        files.append(out / f"{name}.png")
        with replacing(files[-1]) as file:
            file.write(encode_png(picture))
    shell.answer(FilesAnswer(files=files), f"{len(files)} pictures in {out}. A model's estimates.")
