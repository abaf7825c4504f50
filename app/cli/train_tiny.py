"""Train the `tiny` profile, stage by stage, and take a training up where it was left."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.shell import INTERRUPTED, Shell, Verb, ask
from voxelight.models.errors import BadInput, NotInstalled

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from rich.progress import Progress, TaskID

    from voxelight.neuro.tiny.descent import State
    from voxelight.neuro.tiny.recipe import TinyRecipe

STAGES = ("teacher", "image_text", "autoencoder", "unclip", "captions", "subject")
_DIR = click.Path(path_type=Path, file_okay=False)


@click.command(cls=Verb)
@click.argument("stages", nargs=-1, metavar="[STAGE]...", type=click.Choice(STAGES))
@click.option("--pictures", required=True, metavar="DIR", type=_DIR, help="Folder of Parquet files and classes.json.")
@click.option("--out", required=True, metavar="DIR", type=_DIR, help="Folder for weights, curves and records.")
@click.option(
    "--recipe", type=click.Path(path_type=Path, dir_okay=False), help="Another recipe than neuro/tiny/tiny.toml."
)
@click.option("--device", help="auto, cpu, cuda or cuda:N; default: the setting of this installation.")
@click.pass_obj
def train_tiny(
    shell: Shell,
    /,
    stages: tuple[str, ...],
    pictures: Path,
    out: Path,
    recipe: Path | None,
    device: str | None,
) -> None:
    """Train the tiny profile on pictures of 64 x 64 pixels with a class each.

    STAGE is teacher, image_text, autoencoder, unclip, captions or subject; all in this order without one. A stage that
    was cut off goes on from its last checkpoint when the same command is given again, a finished one is left alone.
    Writes STAGE.safetensors with STAGE.json (seed, hashes of the pictures, options, curve), figures.jsonl, and in
    shipped/ the files in half precision. The pictures are those of Tiny ImageNet: docs/tiny.md says how they are laid.
    """
    from voxelight.app.provenance import find_device, find_revision
    from voxelight.app.tiny_training import TrainingFolder
    from voxelight.neuro.tiny.pack import take_sample
    from voxelight.neuro.tiny.pictures import split_pictures
    from voxelight.neuro.tiny.recipe import find_tiny_recipe
    from voxelight.storage.formats.class_pictures import read_class_pictures

    work, published = _find_stages(shell)
    chosen = find_tiny_recipe() if recipe is None else _read_recipe(recipe)
    training, held_out = split_pictures(read_class_pictures(pictures), chosen.held_out)
    place = find_device(device or shell.settings.device)
    with shell.progress() as progress:
        folder = TrainingFolder(out, {"device": place, "revision": find_revision()}, _Bars(progress))
        bench = work.Bench(training, held_out, chosen, place, folder, published)
        try:
            for stage in stages or STAGES:
                folder.tell({"stage": stage, **(work.STAGES[stage](bench) or {})})
        except KeyboardInterrupt:
            shell.note(f"Stopped. The same command goes on with what is in {out}")
            raise click.exceptions.Exit(INTERRUPTED) from None
    missing = folder.missing()
    written = [] if missing else folder.ship(training.names, take_sample(bench.record(), training, chosen))
    told = f"Nothing to ship yet: {', '.join(missing)} to come" if missing else f"{len(written)} files to ship"
    shell.answer(FilesAnswer(files=written), told, *map(str, written))


def _find_stages(shell: Shell) -> "tuple[ModuleType, Callable[[str], tuple[State, str]]]":
    """Return what does the stages, and what reads weights of the teacher and of late voxels."""
    from voxelight.models.feature_weights import read_feature_weights

    try:
        from voxelight.neuro.tiny import stages
    except ImportError as error:
        raise NotInstalled(
            f"no package {error.name}", "the network that teaches", "Run pip install 'voxelight[tiny]'."
        ) from None

    def published(name: str) -> "tuple[State, str]":
        content = read_feature_weights(name, shell.settings.weights)
        return content.tensors(), content.sha256

    return stages, published


def _read_recipe(path: Path) -> "TinyRecipe":
    from voxelight.neuro.tiny.recipe import TinyRecipe

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path}, no recipe ({error})", "a TOML file like neuro/tiny/tiny.toml", "Correct it."
        ) from error
    return ask(TinyRecipe, **content)


class _Bars:
    """One bar a stage."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._bars[stage], completed=done)
