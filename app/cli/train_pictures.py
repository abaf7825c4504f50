"""Train what goes on from tokens, from the shell: the UNet that draws pictures, and the converter for captions."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.recordings import write_json
from voxelight.app.cli.shell import Shell, Verb, ask

if TYPE_CHECKING:
    from torch import Tensor

    from voxelight.app.pipelines.picture_fit import PictureWork
    from voxelight.models.training.loop import Hooks

    Train = Callable[[PictureWork, Hooks, Callable[[int, int], None]], dict[str, Tensor]]

_DIR = click.Path(path_type=Path, file_okay=False)
_CHECKPOINT_S = 120.0


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both commands take."""
    for option in reversed(
        (
            click.option("--pictures", required=True, type=click.Path(path_type=Path), help="Folder, .npy or .npz."),
            click.option("--out", required=True, metavar="DIR", type=_DIR, help="Folder for weights and curve."),
            click.option("--profile", required=True, help="Whose networks: mindeye2, or another profile."),
            click.option("--training", multiple=True, metavar="NAME=JSON", help="Option of the training, as batch=8."),
            click.option("--steps", type=click.IntRange(min=1), help="Gradient steps; default: as published."),
            click.option("--seed", type=click.IntRange(min=0), help="Seed of every random draw; default: 42."),
            click.option("--device", help="auto, cpu, cuda or cuda:N; default: the setting of this installation."),
        )
    ):
        command = option(command)
    return command


@click.command(cls=Verb)
@_shared
@click.option("--start-from", metavar="NAME", help="Published weights with SDXL's UNet, such as sd_xl_base_1.0.")
@click.pass_obj
def train_unclip(shell: Shell, /, start_from: str | None, **wishes: Any) -> None:
    """Fit the UNet that draws pictures from CLIP image tokens.

    As published: the noise of SDXL's latents is estimated, with offset noise, and keys and values of the
    cross-attention start fresh. Writes unclip.safetensors in half precision, unclip.json and unclip_curve.csv. A
    training that was cut off goes on from its last checkpoint when the same command is given again.

    On several cards: torchrun --nproc-per-node N -m voxelight.app.cli train unclip ...
    """
    from voxelight.app.pipelines.picture_fit import train_unclip as train
    from voxelight.models.training.loop import LoopOptions
    from voxelight.neuro.training.unclip import UnclipDescent

    descent = _make(UnclipDescent, wishes)
    options = LoopOptions(checkpoint_s=_CHECKPOINT_S)
    _run(shell, "unclip", descent, wishes, lambda work, hooks, tell: train(work, descent, start_from, hooks, options,
                                                                            tell))  # fmt: skip


@click.command(cls=Verb)
@_shared
@click.option("--caption-tokens", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help=".npy or .npz: for each picture, tokens of the encoder that the caption model knows.")  # fmt: skip
@click.pass_obj
def train_converter(shell: Shell, /, caption_tokens: Path, **wishes: Any) -> None:
    """Fit the converter from CLIP image tokens to those that the caption model reads.

    FILE has one row (token, dim) a picture, in the order of the sorted pictures, or `tokens` and `ids`. Writes
    converter.safetensors in half precision, converter.json and converter_curve.csv. A training that was cut off goes on
    from its last checkpoint when the same command is given again.
    """
    from voxelight.app.pipelines.picture_fit import train_converter as train
    from voxelight.neuro.training.converter import ConverterDescent
    from voxelight.storage.formats.picture_sets import open_pictures, read_rows_by_id

    descent = _make(ConverterDescent, wishes)
    rows, named = read_rows_by_id(caption_tokens, "tokens")
    ids = open_pictures(wishes["pictures"]).ids.tolist()
    place = {name: row for row, name in enumerate(ids if len(ids) == len(rows) else named.tolist())}

    def run(work: "PictureWork", hooks: "Hooks", tell: Callable[[int, int], None]) -> "dict[str, Tensor]":
        known = {key: rows[place[name]] for name, key in wishes["keys"].items() if name in place}
        return train(work, known, descent, hooks, tell)

    _run(shell, "converter", descent, wishes, run)


def _make(model: Any, wishes: dict[str, Any]) -> Any:
    from voxelight.app.cli.train import parse_options

    given = {name: wishes[name] for name in ("steps", "seed") if wishes[name] is not None}
    return ask(model, **given, **parse_options(wishes["training"]))


def _run(shell: Shell, part: str, descent: Any, wishes: dict[str, Any], train: "Train") -> None:
    """Read pictures, train under a bar, and write weights, record and curve."""
    from voxelight.app.cli.train import show_losses
    from voxelight.app.curves import Logs
    from voxelight.app.pipelines.picture_fit import PictureWork
    from voxelight.app.provenance import find_device
    from voxelight.models.training import processes
    from voxelight.models.training.loop import Hooks
    from voxelight.neuro.profiles import find_profile
    from voxelight.neuro.training.recorded import Album
    from voxelight.storage.checkpoints import CheckpointFolder
    from voxelight.storage.formats.picture_sets import open_pictures
    from voxelight.storage.targets import TargetStore
    from voxelight.storage.training_log import TrainingLog

    profile, out = find_profile(wishes["profile"]), wishes["out"]
    album, pictures = Album(profile.side), open_pictures(wishes["pictures"], profile.side)
    wishes["keys"] = album.add(pictures, pictures.ids.tolist())
    keys = tuple(dict.fromkeys(wishes["keys"].values()))
    curve = TrainingLog(out / "work" / f"{part}.jsonl")
    with (
        processes.joined(find_device(wishes["device"] or shell.settings.device)) as device,
        show_losses(shell, part) as (on_step, shown),
    ):
        targets = TargetStore(shell.settings.home / "cache" / "targets")
        work = PictureWork(profile, album, keys, shell.settings.weights, targets, device)
        hooks = Hooks(CheckpointFolder(out / "work" / part), Logs([curve, shown]), on_step)
        weights = train(work, hooks, on_step)
        written = _write(out, part, weights, work.describe(descent, part), curve) if processes.is_first() else []
    if written:
        shell.answer(FilesAnswer(files=written), *map(str, written))


def _write(out: Path, part: str, weights: "dict[str, Tensor]", record: dict[str, Any], curve: Any) -> list[Path]:
    from safetensors.torch import save

    from voxelight.storage.artifacts import hash_file
    from voxelight.storage.formats.streams import replacing

    file, table = out / f"{part}.safetensors", out / f"{part}_curve.csv"
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    with replacing(file) as opened:
        opened.write(save({name: value.cpu().contiguous() for name, value in halves.items()}))
    curve.export_csv(table)
    return [file, write_json(out / f"{part}.json", record | {"weights_sha256": hash_file(file)}), table]
