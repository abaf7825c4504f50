"""Reconstruct pictures from betas: one held-out unit, one item; scores and null once all are done."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from sqlalchemy.orm import Session

from voxelight.app.pipelines import Item, ModelFacts, Pipeline, Plan, check_options
from voxelight.app.pipelines.inputs import PARTS, BetasInput, ask_consent, find_betas, note_alignment, read_seen
from voxelight.app.pipelines.outputs import PNG, TENSORS, file_stem
from voxelight.app.provenance import describe, find_device, find_revision
from voxelight.app.schemas import DECODING_NOTICE, JobRequest, RecipeAnswer
from voxelight.models.values import Provenance
from voxelight.neuro.folds import FoldReconstruction, plan_folds, reconstruct_fold
from voxelight.neuro.recipes import ReconstructionRecipe, find_recipe, list_recipes
from voxelight.storage.formats.images import encode_png
from voxelight.storage.results import Decoded, JobOutcome, Outcome, OutputFile, Score, read_output
from voxelight.storage.schema import Dataset, Job, Run
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.neuro.evaluate.report import ScoreReport

MODEL_VERSION = "1"
_SMALL_AT_ONCE, _SMALL_S = 8, 0.25


class ReconstructOptions(BaseModel):
    """What a reconstruction job can set beside its recipe.

    Parameters
    ----------
    permutations : draws of the null; left out, the recipe's
    mask : id of the volume that marks the region, where the data set holds several
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    permutations: int | None = Field(None, ge=0, le=100_000)
    mask: uuid.UUID | None = None


def show_recipes(_: Path) -> list[RecipeAnswer]:
    """Return what a person chooses from."""
    return [
        RecipeAnswer(
            name=recipe.name,
            kind="reconstruct",
            title=recipe.title,
            summary=recipe.summary,
            model=recipe.decoder,
            weights_sha256="",
            licence="",
        )
        for recipe in map(find_recipe, list_recipes())
    ]


def plan(session: Session, stores: Stores, dataset: Dataset, request: JobRequest) -> Plan:
    """Check consent, read the inputs once and list what is held out.

    Raises
    ------
    Refused
        The data set has no consent or no purpose.
    BadInput
        Inputs are missing, ambiguous, damaged or don't belong together.
    """
    ask_consent(dataset)
    recipe = find_recipe(request.recipe)
    options = check_options(ReconstructOptions, request.options)
    inputs, notes = find_betas(session, dataset, request, options.mask)
    betas, _ = read_seen(session, stores, inputs, dataset.simulated)
    return Plan(
        items=tuple(
            Item(key=fold.key, scan_id=inputs.betas, subject_id=inputs.subject_id) for fold in plan_folds(betas, recipe)
        ),
        model=ModelFacts(
            name=recipe.decoder,
            version=MODEL_VERSION,
            task="reconstruction",
            config=recipe.decoder_options,
            weights_sha256="",
            licence="Apache-2.0",
        ),
        params={"inputs": inputs.model_dump(mode="json")},
        notes=(*notes, *note_alignment(inputs, betas)),
    )


def find_recipe_of(job: Job) -> ReconstructionRecipe:
    """Return the recipe of a job, with what its request set beside it."""
    recipe, options = find_recipe(job.recipe), ReconstructOptions(**job.params["options"])
    changes: dict[str, Any] = {"seed": job.seed or recipe.seed}
    if options.permutations is not None:
        changes["permutations"] = options.permutations
    return recipe.model_copy(update=changes)


class OpenReconstruction:
    """Betas and stimuli of one job in memory, with its folds."""

    def __init__(self, stores: Stores, job: Job, device: str) -> None:
        self.at_once = 1
        self._stores = stores
        self._device = find_device(device)
        options = ReconstructOptions(**job.params["options"])
        self._recipe = find_recipe_of(job)
        self._options = options.model_dump(mode="json", exclude_none=True)
        inputs = BetasInput(**job.params["inputs"])
        with stores.sessions() as session:
            self._betas, self._stimuli = read_seen(session, stores, inputs, job.dataset.simulated)
        self._folds = {fold.key: fold for fold in plan_folds(self._betas, self._recipe)}
        self._inputs = inputs.hashes

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Reconstruct the stimuli of one held-out unit after the other."""
        for run in runs:
            go_on()
            start = time.monotonic()
            outcome = self._reconstruct(run)
            # Of small ones more would be written down than is computed; of others people see each as it ends.
            self.at_once = _SMALL_AT_ONCE if time.monotonic() - start < _SMALL_S else 1
            yield run, outcome

    def _reconstruct(self, run: Run) -> Outcome:
        fold = reconstruct_fold(self._betas, self._stimuli, self._folds[run.item_key], self._recipe, self._device)
        files = [OutputFile("prediction", f"{file_stem(run.item_key)}_prediction.safetensors", TENSORS, _save(fold))]
        decoded = []
        shown = self._stimuli.select(fold.stimulus_ids).images
        for stimulus, image, own in zip(fold.stimulus_ids.tolist(), fold.images, shown, strict=True):
            stem = file_stem(stimulus)
            decoded.append(Decoded(stimulus, f"{stem}_reconstruction.png"))
            files.append(OutputFile("reconstruction", decoded[-1].name, PNG, encode_png(image)))
            files.append(OutputFile("stimulus", f"{stem}_stimulus.png", PNG, encode_png(own)))
        provenance = Provenance(
            recipe=self._recipe.name,
            weights_sha256=fold.weights_sha256,
            revision=find_revision(),
            seed=self._recipe.seed,
            device=self._device,
            options=self._options | {"alpha": fold.alpha, "held_out": run.item_key, "unit": self._recipe.unit},
        )
        return Outcome(files=tuple(files), provenance=describe(provenance, self._inputs), decoded=tuple(decoded))

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Draw the contact sheet; score against the null where nothing is missing."""
        from voxelight.neuro.draw import draw_pairs
        from voxelight.neuro.evaluate.report import score_reconstructions

        folds = [self._load(run) for run in runs]
        sheet = draw_pairs(self._stimuli, folds, self._betas.simulated)
        files = (OutputFile("contact_sheet", "contact_sheet.png", PNG, encode_png(sheet)),)
        if len(folds) < len(self._folds):
            return JobOutcome(files)
        report = score_reconstructions(self._betas, self._stimuli, folds, self._recipe)
        by_stimulus = {
            name: dict(zip(report.stimulus_ids.tolist(), map(float, values), strict=True))
            for name, values in report.by_stimulus.items()
        }
        return JobOutcome(
            files=(*files, OutputFile("scores", "scores.json", "application/json", _save_report(report, by_stimulus))),
            scores=_score_job(report),
            run_scores={run.id: _score_fold(fold, by_stimulus) for run, fold in zip(runs, folds, strict=True)},
        )

    def _load(self, run: Run) -> FoldReconstruction:
        tensors = load_tensors(read_output(self._stores, run.id, "prediction"))
        return FoldReconstruction(
            key=run.item_key,
            stimulus_ids=self._folds[run.item_key].stimulus_ids,
            images=tensors["predictions"].clip(0, 1),
            predictions=tensors["predictions"],
            alpha=float(run.provenance["options"]["alpha"]),
            weights_sha256=run.provenance["weights_sha256"],
            seed=run.provenance["seed"],
        )


def _save(fold: FoldReconstruction) -> bytes:
    return save_tensors(
        {"predictions": np.ascontiguousarray(fold.predictions)},
        metadata={"stimulus_ids": json.dumps(fold.stimulus_ids.tolist())},
    )


def _find_conditions(report: "ScoreReport") -> dict[str, Any]:
    """Return what must be equal for two scores to be compared."""
    return {name: getattr(report, name) for name in ("normalisation", "unit", "permutations", "seed", "simulated")}


def _score_job(report: "ScoreReport") -> tuple[Score, ...]:
    conditions = _find_conditions(report)
    return tuple(
        Score(
            metric.name,
            metric.value,
            low=metric.low,
            high=metric.high,
            detail={"null_mean": metric.null_mean, "null_std": metric.null_std, "p": metric.p, "n": metric.n}
            | conditions,
        )
        for metric in report.metrics
    )


def _score_fold(fold: FoldReconstruction, by_stimulus: dict[str, dict[str, float]]) -> tuple[Score, ...]:
    return tuple(
        Score(name, values[stimulus], label=stimulus)
        for name, values in by_stimulus.items()
        if "." not in name  # a baseline says nothing of this decoder
        for stimulus in fold.stimulus_ids.tolist()
    )


def _save_report(report: "ScoreReport", by_stimulus: dict[str, dict[str, float]]) -> bytes:
    content = {
        "recipe": report.recipe,
        **_find_conditions(report),
        "scores": report.rows(),
        "by_stimulus": by_stimulus,
        "notes": list(report.notes),
        "notice": DECODING_NOTICE,
    }
    return json.dumps(content, indent=2).encode()


PIPELINE = Pipeline(
    list_recipes=show_recipes,
    plan=plan,
    open=OpenReconstruction,
    step_size=16,
    options=ReconstructOptions,
    takes=PARTS,
)
