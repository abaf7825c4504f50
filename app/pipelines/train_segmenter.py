"""Train a segmentation network: one fold, one item; the model of the installation once all are done."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from voxelight.app.curves import Logs
from voxelight.app.pipelines import Item, ModelFacts, Pipeline, Plan, check_options
from voxelight.app.pipelines.pausing import ask_now_and_then
from voxelight.app.pipelines.train_data import TAKES, Pair, find_pairs, read_pairs
from voxelight.app.pipelines.trained import (
    Changes,
    change_recipe,
    describe_model,
    find_start,
    pack_weights,
    read_start,
)
from voxelight.app.provenance import describe, find_device, find_revision
from voxelight.app.schemas import NOTICE, JobRequest, RecipeAnswer
from voxelight.medseg.recipes import find_recipe, list_recipes
from voxelight.medseg.recipes.recipe import LabelRegion, SegmentationRecipe
from voxelight.medseg.splits import Split, choose_split
from voxelight.models.errors import BadInput, NotFound
from voxelight.models.registry import SEGMENTERS
from voxelight.models.values import Provenance
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.curves import RunCurve
from voxelight.storage.results import JobOutcome, Outcome, OutputFile, Score, read_output
from voxelight.storage.schema import Dataset, Job, Run
from voxelight.storage.stores import Stores
from voxelight.storage.trained import TrainedModels
from voxelight.storage.training_log import TrainingLog

if TYPE_CHECKING:
    from voxelight.medseg.train_folds import FoldFit

PREFIX, PLANNED = "train-", "train-planned"
EVERYTHING = "all cases"
_STEPS = 10_000  # of a plan
_CHECKPOINT_S = 120.0
_JSON = "application/json"
_PLANNED = "Spacing, window, levels and batch are chosen from the data set, as nnU-Net does."


class TrainOptions(BaseModel):
    """What a training job can set beside its recipe.

    Parameters
    ----------
    name : of the model that comes out
    folds : first: one fold is held out and scored; all: each in turn, and the model is an ensemble; none: nothing is
    network : another network of the table
    config, training : options of the network and of the training that differ
    steps : gradient steps
    labels : of a plan: number -> name
    regions : of a plan: what is learnt in place of labels, regions that overlap, the outermost first
    memory_gib : of a plan: of the card
    dims : of a plan: 2 for slices, 3 for volumes
    checkpoint_steps : steps from one checkpoint to the next; two minutes without
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, max_length=120)
    folds: Literal["first", "all", "none"] = "first"
    network: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    steps: int | None = Field(None, ge=1)
    labels: dict[int, str] | None = None
    regions: tuple[LabelRegion, ...] = ()
    memory_gib: float = Field(8.0, gt=0)
    dims: Literal[2, 3] | None = None
    checkpoint_steps: int | None = Field(None, ge=1)


def show_recipes(_: Path) -> list[RecipeAnswer]:
    """Return what a person chooses from: a plan from the data, and every packaged recipe with training options."""
    rows = [(PLANNED, "Training, planned from the data", _PLANNED, "agunet")]
    rows += [
        (f"{PREFIX}{recipe.name}", f"Training: {recipe.title}", recipe.summary, recipe.network)
        for recipe in list_recipes()
        if recipe.training is not None
    ]
    return [
        RecipeAnswer(
            name=name, kind="train-segmenter", title=title, summary=f"{summary} Needs images with label maps.",
            model=network, weights_sha256="", licence="",
        )
        for name, title, summary, network in rows
    ]  # fmt: skip


def plan(session: Session, stores: Stores, dataset: Dataset, request: JobRequest) -> Plan:
    """Find the cases, the folds and the name of the model to be.

    Raises
    ------
    NotFound
        There is no such recipe or network.
    BadInput
        There is no case, or an option has no use.
    Conflict
        A model has the name.
    """
    options = check_options(TrainOptions, request.options)
    recipe = _find_recipe(request.recipe, options)
    pairs, notes = find_pairs(session, dataset, request)
    split = _split(pairs, recipe, options, request.seed)
    choices: dict[str, list[int | None]] = {"first": [0], "all": list(range(len(split.folds))), "none": [None]}
    network = recipe.network if recipe else options.network or "agunet"
    started = recipe.training.start_from if recipe and recipe.training else options.training.get("start_from")
    find_start(started, network, stores.weights)
    steps = recipe.training.steps if recipe and recipe.training else options.steps or _STEPS
    return Plan(
        items=tuple(_item(fold, pairs, split) for fold in choices[options.folds]),
        model=ModelFacts(
            name=_name_model(stores, options, request.recipe),
            version="training",
            task="training of a segmentation",
            config={"network": network},
            weights_sha256="",
            licence="",
        ),
        params={"pairs": [pair.model_dump(mode="json") for pair in pairs], "steps": steps},
        notes=notes,
    )


def _find_recipe(name: str, options: TrainOptions) -> SegmentationRecipe | None:
    """Return the recipe of a request with what it changes; None for one that is planned by the worker."""
    if options.network is not None and options.network not in SEGMENTERS:
        known = ", ".join(sorted(SEGMENTERS))
        raise NotFound(f"the network {options.network!r}", f"one of {known}", "Correct the name.")
    if name == PLANNED:
        return None
    if options.labels is not None or options.regions:
        raise BadInput(
            "labels or regions for a recipe that has its own", f"none, or the recipe {PLANNED}", "Leave them out."
        )
    changes = Changes(options.network, options.config, options.steps, None, options.training)
    return change_recipe(find_recipe(name.removeprefix(PREFIX)), changes)


def _split(pairs: list[Pair], recipe: SegmentationRecipe | None, options: TrainOptions, seed: int) -> Split:
    owners = {pair.name: pair.person for pair in pairs}
    if options.folds == "none":
        return Split((), owners)
    return choose_split(recipe.name if recipe else "", list(owners), seed, owners)


def _item(fold: int | None, pairs: list[Pair], split: Split) -> Item:
    first = pairs[0] if fold is None else next(pair for pair in pairs if pair.name in split.folds[fold])
    return Item(EVERYTHING if fold is None else f"fold {fold}", first.scan, first.subject)


def _name_model(stores: Stores, options: TrainOptions, recipe: str) -> str:
    models = TrainedModels(stores.weights)
    if options.name is not None:
        models.refuse_name(options.name)
        return options.name
    base = re.sub(f"^{PREFIX}", "", recipe)
    return next(name for number in range(1, 10_000) if not models.has(name := f"{base}-trained-{number}"))


class OpenTraining:
    """The cases of a job in memory, and its recipe."""

    at_once = 1

    def __init__(self, stores: Stores, job: Job, device: str) -> None:
        self._stores, self._job, self._device = stores, job, find_device(device)
        self._options = TrainOptions(**job.params["options"])
        self._pairs = [Pair(**pair) for pair in job.params["pairs"]]
        recipe = _find_recipe(job.recipe, self._options)
        names, values = (recipe.labels, recipe.values) if recipe else (self._options.labels, {})
        self._cases = read_pairs(stores, self._pairs, names, values)
        self._recipe = self._seed(recipe or self._plan())
        self._split = _split(self._pairs, recipe, self._options, job.seed)
        self._folder = stores.cache / "trainings" / str(job.id)

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Train one fold after the other, each from its last checkpoint."""
        for run in runs:
            go_on()
            fit = self._fit(run, go_on)
            while not fit.fitted.finished:  # it was asked to pause; where the job was cancelled, this says so
                go_on()
                fit = self._fit(run, go_on)
            yield run, self._report(run, fit)

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Keep the model, with the scores of all folds; forget the checkpoints."""
        from voxelight.medseg.train_folds import summarise, tabulate

        if len(runs) < self._job.total:
            return JobOutcome()
        runs = sorted(runs, key=lambda run: run.position)
        contents = [read_output(self._stores, run.id, "weights") for run in runs]
        dice = {_fold_of(run): json.loads(read_output(self._stores, run.id, "scores"))["by_case"] for run in runs}
        held_out = {fold: found for fold, found in dice.items() if fold is not None}
        pooled = summarise({case: row for found in held_out.values() for case, row in found.items()}, self._recipe,
                           self._split)  # fmt: skip
        dataset = self._job.dataset
        facts = {
            "device": self._device, "trained_on": len(self._cases), "dice": pooled, "job": str(self._job.id),
            "steps": runs[0].provenance["options"]["steps"],
            "folds": [_fold_of(run) for run in runs], "simulated": dataset.simulated,
            # By hash alone: whoever deletes a scan is told which models saw it, and no name stands in a model.
            "inputs_sha256": {f"{n:06}-{part}": sha256 for n, pair in enumerate(self._pairs)
                              for part, (_, sha256) in (("image", pair.image), ("labels", pair.labels))},
        }  # fmt: skip
        told = {"name": dataset.name, "licence": dataset.licence, "source": dataset.source}
        model = describe_model(self._job.model.name, self._recipe, contents, told, facts)
        TrainedModels(self._stores.weights).write(model, contents, replace=self._is_own(model.name))
        shutil.rmtree(self._folder, ignore_errors=True)
        table = tabulate(held_out, self._recipe, self._split) if held_out else {}
        return JobOutcome(
            files=(
                OutputFile("card", f"{model.name}.md", "text/markdown", model.card.encode()),
                OutputFile("folds", f"{model.name}_folds.json", _JSON, json.dumps(table | {"notice": NOTICE}).encode()),
            ),
            scores=_score(pooled),
        )

    def _is_own(self, name: str) -> bool:
        """Return whether a model of this name is what an earlier end of this very job wrote."""
        models = TrainedModels(self._stores.weights)
        return models.has(name) and models.find(name).provenance.get("job") == str(self._job.id)

    def _plan(self) -> SegmentationRecipe:
        from voxelight.medseg.fingerprint import look_at, take_fingerprint
        from voxelight.medseg.plan import Wishes, plan_recipe

        options = self._options
        wishes = Wishes(
            name=self._job.model.name,
            network=options.network or "agunet",
            labels=options.labels,
            regions=options.regions,
            memory_gib=options.memory_gib,
            dims=options.dims,
            steps=options.steps or _STEPS,
        )
        planned = plan_recipe(take_fingerprint(map(look_at, self._cases)), wishes).recipe
        return change_recipe(planned, Changes(None, options.config, None, None, options.training))

    def _seed(self, recipe: SegmentationRecipe) -> SegmentationRecipe:
        return recipe.model_copy(update={"seed": self._job.seed or recipe.seed})

    def _fit(self, run: Run, go_on: Callable[[], None]) -> "FoldFit":
        from voxelight.medseg.train_folds import fit_fold
        from voxelight.models.training.loop import Hooks, LoopOptions

        folder, training = self._folder / run.item_key.replace(" ", "-"), self._recipe.training
        assert training is not None
        curve = Logs([TrainingLog(folder / "curve.jsonl"), RunCurve(self._stores, run.id, training.steps)])
        hooks = Hooks(CheckpointFolder(folder / "checkpoints"), curve, pause=ask_now_and_then(go_on))
        # Only a GPU is slowed down by a look at its losses.
        look = LoopOptions().log_steps if self._device.startswith("cuda") else 1
        options = LoopOptions(_CHECKPOINT_S, self._options.checkpoint_steps, look)
        start = read_start(self._recipe, self._stores.weights)
        return fit_fold(self._cases, self._recipe, self._split, _fold_of(run), self._device, hooks, options, start)

    def _report(self, run: Run, fit: "FoldFit") -> Outcome:
        from voxelight.medseg.train_folds import summarise

        content = pack_weights(fit.weights, self._recipe)
        stem = f"{self._job.model.name}_{run.item_key.replace(' ', '-')}"
        dice = summarise(fit.dice, self._recipe, self._split)
        table = self._folder / f"{stem}_curve.csv"
        TrainingLog(self._folder / run.item_key.replace(" ", "-") / "curve.jsonl").export_csv(table)
        provenance = Provenance(
            recipe=self._recipe.name,
            weights_sha256=hashlib.sha256(content).hexdigest(),
            revision=find_revision(),
            seed=self._recipe.seed,
            device=self._device,
            options={"held_out": run.item_key, "steps": fit.fitted.steps, "trained_on": fit.trained_on,
                     "recipe": self._recipe.model_dump(mode="json")},
        )  # fmt: skip
        scores = {"dice": dice, "by_case": fit.dice, "looked_at": list(fit.fitted.watched), "notice": NOTICE}
        hashes = {f"{pair.name}: {name}": sha256 for pair in self._pairs for name, sha256 in (pair.image, pair.labels)}
        return Outcome(
            files=(
                OutputFile("weights", f"{stem}.safetensors", "application/octet-stream", content),
                OutputFile("curve", table.name, "text/csv", table.read_bytes()),
                OutputFile("scores", f"{stem}_scores.json", _JSON, json.dumps(scores).encode()),
            ),
            provenance=describe(provenance, hashes),
            scores=_score(dice),
        )


def _score(dice: dict[str, Any]) -> tuple[Score, ...]:
    return tuple(
        Score("dice", found["estimate"], label=label, low=found["low"], high=found["high"],
              detail={"n": found["persons"]})
        for label, found in dice.items()
    )  # fmt: skip


def _fold_of(run: Run) -> int | None:
    return None if run.item_key == EVERYTHING else int(run.item_key.removeprefix("fold "))


PIPELINE = Pipeline(
    list_recipes=show_recipes,
    plan=plan,
    open=OpenTraining,
    step_size=1,
    options=TrainOptions,
    takes=TAKES,
    pauses=True,
)
