"""Fit the weights of a segmentation recipe, on one fold or on all, and take a training up where it was left."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import TrainAnswer
from voxelight.app.cli.recordings import write_json
from voxelight.app.cli.shell import Shell, Verb
from voxelight.app.schemas import NOTICE
from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxelight.medseg.cases import Case
    from voxelight.medseg.recipes.recipe import SegmentationRecipe
    from voxelight.medseg.splits import Split
    from voxelight.medseg.train_folds import FoldFit

_DIR = click.Path(path_type=Path, file_okay=False)
_CHECKPOINT_S = 120.0
_UNSTATED = {"licence": "", "source": ""}


# What takes other options than a segmentation recipe, by the word in its place.
ELSEWHERE = {
    "tiny": "voxelight.app.cli.train_tiny:train_tiny",
    "decoder": "voxelight.app.cli.train_decoder:train_decoder",
    "unclip": "voxelight.app.cli.train_pictures:train_unclip",
    "converter": "voxelight.app.cli.train_pictures:train_converter",
}


class TrainVerb(Verb):
    """A command that hands over where something else than a segmentation recipe is to be trained."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of this command, or of the one that is named in place of a recipe."""
        if args and args[0] in ELSEWHERE:
            module, _, name = ELSEWHERE[args[0]].partition(":")
            command: click.Command = getattr(import_module(module), name)
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=TrainVerb)
@click.argument("recipe")
@click.option(
    "--data", required=True, metavar="DIR", type=_DIR, help="Folder with images/ and labels/ of one name a case."
)
@click.option("--out", required=True, metavar="DIR", type=_DIR, help="Folder for weights, scores, curves, checkpoints.")
@click.option("--fold", "folds", multiple=True, type=click.IntRange(min=0), help="Fold to hold out, else 0; repeat.")
@click.option("--all-folds", is_flag=True, help="Cross-validate: hold out each fold once.")
@click.option("--everything", is_flag=True, help="Hold nothing out, and score nothing.")
@click.option(
    "--groups", type=click.Path(path_type=Path, dir_okay=False), help="CSV of case,group: who stays together in a fold."
)
@click.option("--network", help="Another network on the same recipe, e.g. attention_unet.")
@click.option("--config", multiple=True, metavar="NAME=JSON", help="Option of the network; repeat for more.")
@click.option("--training", multiple=True, metavar="NAME=JSON", help="Option of the training; repeat for more.")
@click.option("--start-from", metavar="NAME", help="Weights to start from: of a packaged recipe, or a model of yours.")
@click.option("--steps", type=click.IntRange(min=1), help="Gradient steps; default: the recipe's.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every random draw; default: the recipe's.")
@click.option("--device", help="auto, cpu, cuda or cuda:N; default: the setting of this installation.")
@click.option("--tensorboard", is_flag=True, help="Write event files beside the curve.")
@click.option("--keep", metavar="NAME", help="Keep the weights as a model of this installation, for segment --recipe.")
@click.pass_obj
def train(shell: Shell, /, recipe: str, data: Path, out: Path, **wishes: Any) -> None:
    """Fit the weights of a segmentation recipe.

    RECIPE is a packaged recipe or a TOML file, as voxelight plan writes one. Holds out the first fold of the recorded
    split, of --groups, or of a split with each case a person of its own, and scores it. Writes RECIPE.safetensors in
    half precision, RECIPE_scores.json and RECIPE_curve.csv; folds that are named have _fold-N in their names. A
    training that was cut off goes on from its last checkpoint when the same command is given again.

    On several cards: torchrun --nproc-per-node N -m voxelight.app.cli train ...

    In place of RECIPE: decoder for betas to image tokens, unclip for tokens to pictures, converter for tokens to
    captions, tiny for the whole of the small profile. Each has a --help.
    """
    from voxelight.app.pipelines.trained import find_start, find_trainable
    from voxelight.app.provenance import find_device
    from voxelight.medseg.splits import choose_split
    from voxelight.models.training import processes
    from voxelight.storage.formats.cases import read_cases
    from voxelight.storage.trained import TrainedModels

    chosen = _change(find_trainable(recipe), wishes)
    find_start(chosen.training.start_from if chosen.training else None, chosen.network, shell.settings.weights)
    cases = read_cases(data, chosen.labels, chosen.values)
    names = [case.name for case in cases]
    groups = _read_groups(wishes["groups"]) if wishes["groups"] else None
    split = _whole(names, groups) if wishes["everything"] else choose_split(chosen.split or chosen.name, names,
                                                                            chosen.seed, groups)  # fmt: skip
    folds = _choose_folds(wishes, split)
    if wishes["keep"]:
        TrainedModels(shell.settings.weights).refuse_name(wishes["keep"])
    with processes.joined(find_device(wishes["device"] or shell.settings.device)) as device:
        fits = [_fit(shell, cases, chosen, split, fold, _Place(out, chosen.name, fold, wishes, device))
                for fold in folds]  # fmt: skip
        if processes.is_first():
            _answer(shell, fits, chosen, split, {"out": out, "data": data, "device": device, "keep": wishes["keep"]})


class _Place:
    """Where a fold is trained and what comes out of it."""

    def __init__(self, out: Path, name: str, fold: int | None, wishes: Mapping[str, Any], device: str) -> None:
        named = bool(wishes["folds"]) or wishes["all_folds"]
        self.stem = f"{name}_fold-{fold}" if named else name
        self.out, self.device, self.tensorboard = out, device, bool(wishes["tensorboard"])
        self.work = out / "work" / self.stem


def _change(recipe: "SegmentationRecipe", wishes: Mapping[str, Any]) -> "SegmentationRecipe":
    from voxelight.app.pipelines.trained import Changes, change_recipe

    config, training = (parse_options(wishes[name]) for name in ("config", "training"))
    training |= {"start_from": wishes["start_from"]} if wishes["start_from"] else {}
    return change_recipe(recipe, Changes(wishes["network"], config, wishes["steps"], wishes["seed"], training))


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return what was given as NAME=JSON, or as NAME=TEXT."""
    return dict(map(parse_setting, texts))


def parse_setting(text: str) -> tuple[str, Any]:
    """Read NAME=JSON; what is no JSON is taken as text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _choose_folds(wishes: Mapping[str, Any], split: "Split") -> list[int | None]:
    if sum((bool(wishes["folds"]), wishes["all_folds"], wishes["everything"])) > 1:
        raise BadInput("two of --fold, --all-folds and --everything", "one of them", "Leave the others out.")
    if wishes["everything"]:
        return [None]
    return list(range(len(split.folds))) if wishes["all_folds"] else list(dict.fromkeys(wishes["folds"])) or [0]


def _whole(names: Sequence[str], groups: Mapping[str, str] | None) -> "Split":
    from voxelight.medseg.splits import Split

    return Split((), {name: (groups or {}).get(name, name) for name in names})


def _read_groups(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["case"]: row["group"] for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError):
        raise BadInput(f"{path}, without the columns case and group", "a CSV file with both", "Correct it.") from None


def _fit(
    shell: Shell, cases: "Sequence[Case]", recipe: "SegmentationRecipe", split: "Split", fold: int | None, place: _Place
) -> "tuple[FoldFit, list[Path]]":
    """Fit one fold under a bar, and write what comes out of it once all is done."""
    from voxelight.app.curves import Logs, TensorBoardLog
    from voxelight.app.pipelines.trained import read_start
    from voxelight.medseg.train_folds import fit_fold
    from voxelight.models.training import processes
    from voxelight.models.training.loop import Hooks, LoopOptions
    from voxelight.storage.checkpoints import CheckpointFolder
    from voxelight.storage.training_log import TrainingLog

    curve = TrainingLog(place.work / "curve.jsonl")
    boards = [TensorBoardLog(place.work / "tensorboard")] if place.tensorboard else []
    with show_losses(shell, place.stem) as (on_step, shown):
        hooks = Hooks(CheckpointFolder(place.work / "checkpoints"), Logs([curve, *boards, shown]), on_step)
        options, start = LoopOptions(checkpoint_s=_CHECKPOINT_S), read_start(recipe, shell.settings.weights)
        found = fit_fold(cases, recipe, split, fold, place.device, hooks, options, start)
    return found, _write(place, recipe, split, found, curve) if processes.is_first() else []


class _Shown:
    """The last losses, for the bar."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, rows: list[dict[str, float]]) -> None:
        last = {name: value for row in rows for name, value in row.items() if name in {"loss", "dice"}}
        self.text = ", ".join(f"{name} {value:.3f}" for name, value in last.items()) or self.text

    def rewind(self, step: int) -> None:
        """Nothing to forget."""


@contextmanager
def show_losses(shell: Shell, name: str) -> "Iterator[tuple[Callable[[int, int], None], _Shown]]":
    """Show a bar with the last losses while the block trains; yield what is told of steps, and of rows of the curve."""
    shown = _Shown()
    with shell.progress() as progress:
        bar = progress.add_task(name, total=None)

        def on_step(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, description=f"{name}: {shown.text or 'training'}")

        yield on_step, shown


def _write(place: _Place, recipe: "SegmentationRecipe", split: "Split", found: "FoldFit", curve: Any) -> list[Path]:
    import hashlib

    from voxelight.app.pipelines.trained import pack_weights
    from voxelight.app.provenance import find_revision
    from voxelight.medseg.train_folds import summarise
    from voxelight.storage.formats.streams import replacing

    content = pack_weights(found.weights, recipe)
    place.out.mkdir(parents=True, exist_ok=True)
    weights, table = place.out / f"{place.stem}.safetensors", place.out / f"{place.stem}_curve.csv"
    with replacing(weights) as file:
        file.write(content)
    curve.export_csv(table)
    scores = {
        "dice": summarise(found.dice, recipe, split),
        "by_case": found.dice,
        "held_out": len(found.dice),
        "fold": found.fold,
        "trained_on": found.trained_on,
        "looked_at": list(found.fitted.watched),
        "steps": found.fitted.steps,
        "device": place.device,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "revision": find_revision(),
        "recipe": recipe.model_dump(mode="json"),
        "notice": NOTICE,
    }
    return [weights, write_json(place.out / f"{place.stem}_scores.json", scores), table]


def _answer(
    shell: Shell,
    fits: "Sequence[tuple[FoldFit, list[Path]]]",
    recipe: "SegmentationRecipe",
    split: "Split",
    facts: Mapping[str, Any],
) -> None:
    """Write the table of several folds, keep the model, and say what came out."""
    from voxelight.app.cli.tables import make_table
    from voxelight.medseg.train_folds import summarise, tabulate

    files = [path for _, written in fits for path in written]
    by_fold = {fit.fold: fit.dice for fit, _ in fits if fit.fold is not None}
    dice = summarise({case: row for found in by_fold.values() for case, row in found.items()}, recipe, split)
    tables = []
    if len(by_fold) > 1:
        table = tabulate(by_fold, recipe, split)
        files.append(write_json(facts["out"] / f"{recipe.name}_folds.json", table | {"notice": NOTICE}))
        rows = [(fold, *(f"{found[label]['estimate']:.4f}" if label in found else "" for label in dice))
                for fold, found in table["folds"].items()]  # fmt: skip
        tables.append(make_table(("fold", *dice), rows))
    if facts["keep"]:
        _keep(shell, fits, recipe, facts, dice)
    means = {label: interval["estimate"] for label, interval in dice.items()}
    said = ", ".join(f"{label} {value:.3f}" for label, value in means.items()) or "nothing held out"
    trained, held_out = fits[0][0].trained_on, sum(len(found) for found in by_fold.values())
    shell.answer(
        TrainAnswer(files=files, dice=means),
        f"Trained on {trained} cases. Dice over {held_out} held-out cases: {said}",
        *tables,
        *map(str, files),
    )


def _keep(
    shell: Shell,
    fits: "Sequence[tuple[FoldFit, list[Path]]]",
    recipe: "SegmentationRecipe",
    facts: Mapping[str, Any],
    dice: Mapping[str, Any],
) -> None:
    from voxelight.app.pipelines.trained import describe_model, pack_weights
    from voxelight.storage.trained import TrainedModels

    contents = [pack_weights(fit.weights, recipe) for fit, _ in fits]
    told = {"device": facts["device"], "trained_on": fits[0][0].trained_on, "steps": fits[0][0].fitted.steps,
            "dice": dict(dice), "folds": [fit.fold for fit, _ in fits]}  # fmt: skip
    model = describe_model(facts["keep"], recipe, contents, {"name": facts["data"].name} | _UNSTATED, told)
    place = TrainedModels(shell.settings.weights).write(model, contents)
    shell.note(f"Kept as {facts['keep']} in {place}")
