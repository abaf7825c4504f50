"""Train a MindEye2 decoder on the betas of a data set: one training, one item; it is a model of the installation."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from voxelight.app.curves import Logs
from voxelight.app.pipelines import Item, ModelFacts, Pipeline, Plan, check_options
from voxelight.app.pipelines.decoder_data import SHOWN_SIDE, plan_inputs, read_seen_trials
from voxelight.app.pipelines.decoder_recipes import (
    PREFIX,
    Amount,
    DecoderOptions,
    count_steps,
    make_recipe,
    refuse_start,
)
from voxelight.app.pipelines.inputs import PARTS, BetasInput, ask_consent
from voxelight.app.pipelines.pausing import ask_now_and_then
from voxelight.app.provenance import describe, find_device, find_revision
from voxelight.app.schemas import DECODING_NOTICE, JobRequest, RecipeAnswer
from voxelight.models.values import Provenance
from voxelight.neuro.training.recipe import find_training_recipe, list_training_recipes
from voxelight.neuro.training.recorded import Album
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.curves import RunCurve
from voxelight.storage.decoders import TrainedDecoder, TrainedDecoders
from voxelight.storage.results import JobOutcome, Outcome, OutputFile, Score
from voxelight.storage.schema import Dataset, Job, Run
from voxelight.storage.stores import Stores
from voxelight.storage.targets import TargetStore
from voxelight.storage.training_log import TrainingLog

if TYPE_CHECKING:
    from voxelight.app.pipelines.decoder_fit import Checked
    from voxelight.neuro.train import Fitted

EVERYTHING = "all subjects"
_CHECKPOINT_S = 120.0
_TOLD = ("scores", "by_distance", "bottleneck", "guards", "conditions", "held_out")
_JSON = "application/json"


def show_recipes(_: Path) -> list[RecipeAnswer]:
    """Return the packaged recipes of decoders."""
    recipes = map(find_training_recipe, list_training_recipes())
    return [
        RecipeAnswer(
            name=f"{PREFIX}{recipe.name}",
            kind="train-decoder",
            title=f"Training: {recipe.title}",
            summary=f"{recipe.summary} Needs betas with the pictures that were seen.",
            model="mindeye2",
            weights_sha256="",
            licence="",
        )
        for recipe in recipes
    ]


def plan(session: Session, stores: Stores, dataset: Dataset, request: JobRequest) -> Plan:
    """Check consent, options and what there is to train on.

    Raises
    ------
    Refused
        The data set has no consent or no purpose.
    NotFound
        There is no such recipe, profile or decoder to start from.
    BadInput
        Inputs are missing or ambiguous, or an option has no use.
    Conflict
        A model has the name.
    """
    ask_consent(dataset)
    options = check_options(DecoderOptions, request.options)
    profile = options.find_profile()
    refuse_start(stores.weights, options, profile)
    planned = plan_inputs(session, stores, dataset, request, options)
    name = request.recipe.removeprefix(PREFIX)
    recipe, notes = make_recipe(name, options, profile, planned.amount, request.seed)
    return Plan(
        items=(Item(EVERYTHING, planned.inputs[0].betas, planned.inputs[0].subject_id),),
        model=ModelFacts(
            name=TrainedDecoders(stores.weights).propose(options.name, re.sub("^mindeye2-", "decoder-", name)),
            version="training",
            task="training of a decoder",
            config={"network": "mindeye2", "profile": profile.name, "random_weights": profile.draws("image_encoder")},
            weights_sha256="",
            licence="",
        ),
        params={
            "inputs": [inputs.model_dump(mode="json") for inputs in planned.inputs],
            "amount": [planned.amount.subjects, planned.amount.sessions, planned.amount.trials],
            "by_session": planned.by_session,
            "steps": count_steps(recipe, planned.amount.subjects),
        },
        notes=(*planned.notes, *notes),
    )


class OpenDecoderTraining:
    """The betas of a job mapped into memory, its pictures, and its recipe."""

    at_once = 1

    def __init__(self, stores: Stores, job: Job, device: str) -> None:
        from voxelight.app.pipelines.decoder_fit import DecoderTraining, Work

        self._stores, self._job = stores, job
        self._folder = stores.cache / "trainings" / str(job.id)
        self._options = DecoderOptions(**job.params["options"])
        self._inputs = [BetasInput(**told) for told in job.params["inputs"]]
        profile, album = self._options.find_profile(), Album(SHOWN_SIDE)
        recipe, _ = make_recipe(
            job.recipe.removeprefix(PREFIX), self._options, profile, Amount(*job.params["amount"]), job.seed
        )
        with stores.sessions() as session:
            seen = tuple(
                read_seen_trials(session, stores, inputs, job.dataset.simulated, album,
                                 self._folder / f"betas-{number}.npy")
                for number, inputs in enumerate(self._inputs)
            )  # fmt: skip
        self._training: DecoderTraining = DecoderTraining(
            Work(
                recipe=recipe,
                options=self._options,
                profile=profile,
                seen=seen,
                album=album,
                by_session=job.params["by_session"],
                weights=stores.weights,
                targets=TargetStore(stores.cache / "targets"),
                device=find_device(device),
            )
        )

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Compute targets, train from the last checkpoint, check on held-out pictures, and keep the decoder."""

        def on_step(_done: int, _total: int) -> None:
            go_on()

        for run in runs:
            go_on()
            tables = self._training.compute_targets(on_step)
            network, fitted = self._fit(run, tables, go_on)
            while not fitted.finished:  # it was asked to pause; where the job was cancelled, this says so
                go_on()
                network, fitted = self._fit(run, tables, go_on)
            checked = self._training.check(network, tables["tokens"], on_step)
            yield run, self._report(fitted, checked, self._tell_oracles(checked))

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Hand out the card; forget checkpoints and the mapped betas."""
        return hand_out(self._stores, self._folder, self._job.model.name, runs)

    def _fit(self, run: Run, tables: Any, go_on: Callable[[], None]) -> "tuple[Any, Fitted]":
        from voxelight.models.training.loop import Hooks, LoopOptions

        curve = Logs([TrainingLog(self._folder / "curve.jsonl"),
                      RunCurve(self._stores, run.id, self._job.params["steps"])])  # fmt: skip
        hooks = Hooks(CheckpointFolder(self._folder / "checkpoints"), curve, pause=ask_now_and_then(go_on))
        # Only a GPU is slowed down by a look at its losses.
        look = LoopOptions().log_steps if self._training.work.device.startswith("cuda") else 1
        return self._training.fit(tables, hooks, LoopOptions(_CHECKPOINT_S, self._options.checkpoint_steps, look))

    def _tell_oracles(self, checked: "Checked") -> dict[str, str]:
        """Write beside the scores of simulated subjects what the best decoder would reach; say of each why not."""
        from voxelight.app.pipelines.decoder_oracle import tell_stored_oracle

        with self._stores.sessions() as session:
            return {
                prepared.training.name: tell_stored_oracle(
                    session, self._stores, inputs, (seen, prepared), checked.scores[prepared.training.name]
                )
                for inputs, seen, prepared in zip(
                    self._inputs, self._training.work.seen, self._training.subjects, strict=True
                )
            }

    def _report(self, fitted: "Fitted", checked: "Checked", oracles: dict[str, str]) -> Outcome:
        dataset, name, work = self._job.dataset, self._job.model.name, self._training.work
        hashes = {file: sha256 for inputs in self._inputs for file, sha256 in inputs.hashes.items()}
        data = {"name": dataset.name, "licence": dataset.licence, "source": dataset.source}
        facts = {"job": str(self._job.id), "inputs_sha256": hashes, "oracle": oracles}
        kept = self._training.keep(name, fitted, checked, data, facts, replace=is_own(self._stores, self._job))
        table = self._folder / f"{name}_curve.csv"
        TrainingLog(self._folder / "curve.jsonl").export_csv(table)
        provenance = Provenance(
            recipe=work.recipe.name,
            weights_sha256=kept.sha256,
            revision=find_revision(),
            seed=work.recipe.seed,
            device=work.device,
            options={"steps": fitted.steps, "held_out": self._training.chosen, "profile": work.profile.name,
                     "recipe": work.recipe.model_dump(mode="json"), "start_from": self._options.start_from},
        )  # fmt: skip
        return Outcome(
            files=(
                OutputFile("curve", table.name, "text/csv", table.read_bytes()),
                tell_scores(kept, _TOLD),
            ),
            provenance=describe(provenance, hashes),
            scores=as_scores(kept),
        )


def is_own(stores: Stores, job: Job) -> bool:
    """Return whether the decoder of a job's name is what an earlier end of this very job wrote."""
    decoders, name = TrainedDecoders(stores.weights), job.model.name
    return decoders.has(name) and decoders.find(name).provenance.get("job") == str(job.id)


def tell_scores(kept: TrainedDecoder, told: Sequence[str]) -> OutputFile:
    """Return the named parts of a decoder's provenance as JSON, with what must stand beside scores."""
    about = {"decoder": kept.name, "simulated": kept.simulated, "source": kept.source, "notice": DECODING_NOTICE}
    content = json.dumps({key: kept.provenance[key] for key in told} | about, indent=2).encode()
    return OutputFile("scores", f"{kept.name}_scores.json", _JSON, content)


def hand_out(stores: Stores, folder: Path, name: str, runs: Sequence[Run]) -> JobOutcome:
    """Return card and scores of a decoder that was kept; forget the folder of its training."""
    shutil.rmtree(folder, ignore_errors=True)
    decoders = TrainedDecoders(stores.weights)
    if not runs or not decoders.has(name):
        return JobOutcome()
    kept = decoders.find(name)
    card = OutputFile("card", f"{name}.md", "text/markdown", kept.card.encode())
    return JobOutcome(files=(card,), scores=as_scores(kept))


def as_scores(kept: TrainedDecoder) -> tuple[Score, ...]:
    """Return the scores of a decoder as rows, each with the conditions that it holds under."""
    rows = []
    for subject, found in kept.provenance["scores"].items():
        conditions = kept.provenance["conditions"][subject] | {"simulated": kept.simulated, "betas": kept.source}
        for score in found:
            detail = {key: value for key, value in score.items() if key not in ("name", "value", "low", "high")}
            rows.append(Score(score["name"], score["value"], subject, score["low"], score["high"],
                              detail=detail | conditions))  # fmt: skip
    return tuple(rows)


PIPELINE = Pipeline(
    list_recipes=show_recipes,
    plan=plan,
    open=OpenDecoderTraining,
    step_size=1,
    options=DecoderOptions,
    takes=PARTS,
    pauses=True,
)
