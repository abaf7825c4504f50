"""Train a decoder from the shell: on simulated subjects in a folder or a stored data set, on one card or several."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.recordings import write_json
from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.models.errors import BadInput
from voxelight.neuro.training.recorded import HeldOutWay

if TYPE_CHECKING:
    from voxelight.app.pipelines.decoder_fit import Checked, DecoderTraining
    from voxelight.app.pipelines.decoder_recipes import Amount, DecoderOptions
    from voxelight.neuro.training.recorded import Album, SeenTrials

    Found = tuple[tuple[SeenTrials, ...], Album, dict[str, str], dict[str, str]]

_DIR = click.Path(path_type=Path, file_okay=False)
_CHECKPOINT_S = 120.0
_MAKE = "make.json"


@click.command(cls=Verb)
@click.argument("recipe")
@click.option("--data", required=True, help="Folder of voxelight simulate, or the name of a stored data set.")
@click.option("--pictures", type=click.Path(path_type=Path), help="With a folder: the pictures that were simulated.")
@click.option("--features", type=click.Path(path_type=Path, dir_okay=False), help="With a folder: what it was made of.")
@click.option("--out", required=True, metavar="DIR", type=_DIR, help="Folder for scores, curve, card and checkpoints.")
@click.option("--keep", required=True, metavar="NAME", help="Name of the decoder, for decode --profile and jobs.")
@click.option("--profile", help="Whose image tokens are predicted; default: tiny, else mindeye2.")
@click.option("--start-from", metavar="NAME", help="A decoder trained here, or published weights of many subjects.")
@click.option("--subject", "subjects", multiple=True, help="Only this subject, a label or a number; repeat for more.")
@click.option("--sessions", type=click.IntRange(min=1), help="First sessions of each: 1 (one hour), 2, 5, 10, 40.")
@click.option("--adapter-rank", type=click.IntRange(min=1), help="Rank of a low-rank map of each subject.")
@click.option("--held-out", type=click.Choice(get_args(HeldOutWay)), default="auto", show_default=True,
              help="Pictures that are kept for the test.")  # fmt: skip
@click.option("--normalisation", type=click.Choice(["training-rows-per-session", "training-rows", "as-stored"]),
              help="Of the betas; default: of each session where sessions are known.")  # fmt: skip
@click.option("--config", multiple=True, metavar="NAME=JSON", help="Option of the network; repeat for more.")
@click.option("--training", multiple=True, metavar="NAME=JSON", help="Option of the recipe; repeat for more.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of every random draw; default: the recipe's.")
@click.option("--device", help="auto, cpu, cuda or cuda:N; default: the setting of this installation.")
@click.option("--tensorboard", is_flag=True, help="Write event files beside the curve.")
@click.pass_obj
def train_decoder(shell: Shell, /, recipe: str, data: str, out: Path, keep: str, seed: int, **wishes: Any) -> None:
    """Fit a MindEye2 decoder to the betas of one subject or more.

    RECIPE is mindeye2-pretrain, mindeye2-pretrain-small, mindeye2-one-subject, or mindeye2-finetune, which fits a
    decoder of many subjects to a new one. Held-out pictures are scored, and where the generator of simulated subjects
    is known, as a fraction of the best that their noise allows. The decoder becomes a model of the installation that
    voxelight decode --profile NAME knows. A training that was cut off goes on from its last checkpoint when the same
    command is given again.

    On several cards: torchrun --nproc-per-node N -m voxelight.app.cli train decoder ...
    """
    from voxelight.app.cli.train import parse_options
    from voxelight.app.pipelines.decoder_fit import DecoderTraining, Work
    from voxelight.app.pipelines.decoder_recipes import DecoderOptions, make_recipe, refuse_start
    from voxelight.app.provenance import find_device
    from voxelight.models.training import processes
    from voxelight.storage.decoders import TrainedDecoders
    from voxelight.storage.targets import TargetStore

    device, boards = wishes.pop("device"), wishes.pop("tensorboard")
    simulated = (wishes.pop("pictures"), wishes.pop("features"))
    told = {name: parse_options(wishes.pop(name)) for name in ("config", "training")}
    chosen = {name: value for name, value in wishes.items() if value}
    options = ask(DecoderOptions, **told, **chosen)
    profile, weights = options.find_profile(), shell.settings.weights
    refuse_start(weights, options, profile)
    TrainedDecoders(weights).refuse_name(keep)
    seen, album, facts, hashes = _read(shell, data, simulated[0], out, options)
    made, notes = make_recipe(recipe, options, profile, _count(seen), seed)
    for note in notes:
        shell.note(note)
    targets = TargetStore(shell.settings.home / "cache" / "targets")
    with processes.joined(find_device(device or shell.settings.device)) as place:
        by_session = all("session" in each.betas.labels for each in seen)
        training = DecoderTraining(Work(made, options, profile, seen, album, by_session, weights, targets, place))
        scored = partial(_add_oracles, shell, Path(data), simulated, training)
        written = _fit(shell, training, out, keep, (facts, hashes), boards, scored)
        if processes.is_first():
            shell.answer(FilesAnswer(files=written), *_tell(written[0]), *map(str, written))


def _read(shell: Shell, data: str, pictures: Path | None, out: Path, options: "DecoderOptions") -> "Found":
    """Return trials and pictures, what is stated of the data, and the hashes of files."""
    from voxelight.app.pipelines.decoder_data import SHOWN_SIDE
    from voxelight.neuro.training.recorded import Album

    album, folder = Album(SHOWN_SIDE), Path(data)
    if (folder / _MAKE).is_file():
        if pictures is None:
            raise BadInput(f"simulated subjects in {folder} without their pictures", "--pictures",
                           "Name the pictures that they were simulated from.")  # fmt: skip
        return _read_simulated(folder, pictures, album, options)
    if pictures is not None:
        raise BadInput("--pictures for a stored data set", "it with a folder of voxelight simulate", "Leave it out.")
    return _read_stored(shell, data, album, out, options)


def _read_simulated(folder: Path, pictures: Path, album: "Album", options: "DecoderOptions") -> "Found":
    from voxelight.neuro.training.recorded import SeenTrials
    from voxelight.storage.artifacts import hash_file
    from voxelight.storage.formats.picture_sets import open_pictures
    from voxelight.storage.formats.simulated import find_subject_folder, read_make, read_simulated

    make, shown, seen, hashes = read_make(folder), open_pictures(pictures), [], {}
    known = {name: int(number) for number, name in make["names"].items()}
    wanted = options.subjects or list(known)
    for label in wanted:
        number = known.get(label, int(label) if label.isdigit() else 0)
        betas = read_simulated(folder, number)
        keys = album.add(shown, betas.stimulus_ids.tolist())
        seen.append(SeenTrials(betas, tuple(keys[name] for name in betas.stimulus_ids.tolist())))
        trials = find_subject_folder(folder, number) / "trials.tsv"
        hashes[f"{label}: {trials.name}"] = hash_file(trials)
    source = f"simulated ({make['kind']}, {make['encoder']}) from {make['pictures']} pictures"
    facts = {"name": folder.name, "licence": "", "source": source}
    return tuple(seen), album, facts, hashes | {"pictures": make["pictures_sha256"]}


def _read_stored(shell: Shell, name: str, album: "Album", out: Path, options: "DecoderOptions") -> "Found":
    from voxelight.app.pipelines.decoder_data import plan_inputs, read_seen_trials
    from voxelight.app.pipelines.inputs import ask_consent
    from voxelight.app.schemas import JobRequest
    from voxelight.storage.queries import find_dataset

    stores = shell.services.stores
    with stores.sessions() as session:
        dataset = find_dataset(session, name)
        ask_consent(dataset)
        request = ask(JobRequest, kind="train-decoder", recipe="", dataset=name)
        planned = plan_inputs(session, stores, dataset, request, options)
        # Every process maps a file of its own: none waits for another one's writing.
        work = out / "work" / f"betas-{os.environ.get('RANK', '0')}"
        seen = tuple(
            read_seen_trials(session, stores, inputs, dataset.simulated, album, work / f"{number}.npy")
            for number, inputs in enumerate(planned.inputs)
        )
        facts = {"name": dataset.name, "licence": dataset.licence, "source": dataset.source}
    return seen, album, facts, {file: sha for inputs in planned.inputs for file, sha in inputs.hashes.items()}


def _count(seen: "Sequence[SeenTrials]") -> "Amount":
    from voxelight.app.pipelines.decoder_recipes import Amount

    return Amount(len(seen), len(set(seen[0].sessions)), len(seen[0].keys))


def _fit(
    shell: Shell, training: "DecoderTraining", out: Path, name: str, told: tuple[dict[str, str], dict[str, str]],
    boards: bool, scored: "Callable[[Checked], None]",
) -> list[Path]:  # fmt: skip
    """Compute targets, train under a bar, check and keep; the first process alone writes."""
    from voxelight.app.cli.train import show_losses
    from voxelight.app.curves import Log, Logs, TensorBoardLog
    from voxelight.models.training import processes
    from voxelight.models.training.loop import Hooks, LoopOptions
    from voxelight.storage.checkpoints import CheckpointFolder
    from voxelight.storage.training_log import TrainingLog

    work = out / "work"
    curve = TrainingLog(work / "curve.jsonl")
    with shell.progress() as progress:
        bar = progress.add_task("targets", total=None)

        def on_step(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        with processes.first_before_others():  # one computes what the others then find
            tables = training.compute_targets(on_step)
    with show_losses(shell, name) as (tell, shown):
        logs: list[Log] = [curve, *([TensorBoardLog(work / "tensorboard")] if boards else []), shown]
        hooks = Hooks(CheckpointFolder(work / "checkpoints"), Logs(logs), tell)
        network, fitted = training.fit(tables, hooks, LoopOptions(checkpoint_s=_CHECKPOINT_S))
    if not processes.is_first():
        return []
    checked = training.check(network, tables["tokens"], lambda _done, _total: None)
    scored(checked)
    data, hashes = told
    kept = training.keep(name, fitted, checked, data, {"inputs_sha256": hashes}, replace=False)
    table, card = out / f"{name}_curve.csv", out / f"{name}.md"
    curve.export_csv(table)
    card.write_text(kept.card, encoding="utf-8")
    return [write_json(out / f"{name}_scores.json", kept.provenance | {"simulated": kept.simulated}), table, card]


def _add_oracles(
    shell: Shell, folder: Path, simulated: tuple[Path | None, Path | None], training: "DecoderTraining",
    checked: "Checked",
) -> None:  # fmt: skip
    """Write beside the scores of simulated subjects what the best decoder would reach, where the generator is known."""
    from voxelight.app.pipelines.decoder_oracle import find_encoder, tell_oracle
    from voxelight.storage.formats.picture_sets import open_pictures
    from voxelight.storage.formats.simulated import read_make

    pictures, features = simulated
    if pictures is None:
        return
    make, shown = read_make(folder), open_pictures(pictures)
    try:
        encoder = find_encoder(make, features, shown)
    except BadInput as error:
        shell.note(f"No oracle: {error}")
        return
    numbers = {name: int(number) for number, name in make["names"].items()}
    for seen, prepared in zip(training.work.seen, training.subjects, strict=True):
        name = prepared.training.name
        tell_oracle(make, numbers[name], shown, encoder, (seen, prepared), checked.scores[name])


def _tell(scores: Path) -> list[str]:
    told = json.loads(scores.read_text("utf-8"))
    mark = " (SIMULATED)" if told["simulated"] else ""
    return [
        f"{subject}{mark}: {score['name']} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
        + (f", {100 * score['fraction_of_oracle']:.0f} % of the oracle" if "fraction_of_oracle" in score else "")
        for subject, found in told["scores"].items()
        for score in found
    ]
