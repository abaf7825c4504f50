"""Fit a linear decoder to the betas of a data set: one fit, one item; it is a model of the installation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from voxelight.app.pipelines import Item, ModelFacts, Pipeline, Plan, check_options
from voxelight.app.pipelines.decoder_card import join_card
from voxelight.app.pipelines.decoder_data import SHOWN_SIDE, plan_inputs, read_seen_trials
from voxelight.app.pipelines.decoder_recipes import DecoderOptions
from voxelight.app.pipelines.inputs import PARTS, BetasInput, ask_consent
from voxelight.app.pipelines.linear_recipes import PREFIX, LinearOptions, find_spaces
from voxelight.app.pipelines.train_decoder import as_scores, hand_out, is_own, tell_scores
from voxelight.app.provenance import describe, find_device, find_revision
from voxelight.app.schemas import JobRequest, RecipeAnswer
from voxelight.models.errors import BadInput
from voxelight.models.values import Provenance
from voxelight.neuro.linear import find_linear_recipe, list_linear_recipes
from voxelight.neuro.training.held_out import hold_out
from voxelight.neuro.training.recorded import Album, prepare_subject
from voxelight.storage.decoders import TrainedDecoder, TrainedDecoders
from voxelight.storage.results import JobOutcome, Outcome
from voxelight.storage.schema import Dataset, Job, Run
from voxelight.storage.stores import Stores
from voxelight.storage.targets import TargetTable

if TYPE_CHECKING:
    from voxelight.app.pipelines.linear_check import Checked

_TOLD = ("scores", "guards", "conditions", "held_out")
_JSON = "application/json"


def show_recipes(_: Path) -> list[RecipeAnswer]:
    """Return the packaged recipes of linear decoders."""
    return [
        RecipeAnswer(
            name=f"{PREFIX}{recipe.name}",
            kind="train-linear",
            title=f"Training: {recipe.title}",
            summary=f"{recipe.summary} Needs betas with the pictures that were seen.",
            model="linear",
            weights_sha256="",
            licence="",
            random_weights=recipe.random_weights,
        )
        for recipe in map(find_linear_recipe, list_linear_recipes())
    ]


def plan(session: Session, stores: Stores, dataset: Dataset, request: JobRequest) -> Plan:
    """Check consent, options, networks that make the targets, and what there is to fit to.

    Raises
    ------
    Refused
        The data set has no consent or no purpose.
    NotFound
        There is no such recipe.
    BadInput
        Inputs are missing or ambiguous, there are several subjects, or an option has no use.
    Unavailable
        Nothing here makes the targets of a space.
    Conflict
        A model has the name.
    """
    ask_consent(dataset)
    options = check_options(LinearOptions, request.options)
    recipe = find_linear_recipe(request.recipe.removeprefix(PREFIX))
    spaces = find_spaces(recipe, options, stores.weights)
    subjects = None if options.subject is None else [options.subject]
    planned = plan_inputs(session, stores, dataset, request, DecoderOptions(subjects=subjects, mask=options.mask))
    if len(planned.inputs) != 1:
        raise BadInput(f"{len(planned.inputs)} subjects: {', '.join(each.subject for each in planned.inputs)}",
                       "one, to whom a linear decoder is fitted", "Name one in `subject`.")  # fmt: skip
    return Plan(
        items=(Item(planned.inputs[0].subject, planned.inputs[0].betas, planned.inputs[0].subject_id),),
        model=ModelFacts(
            name=TrainedDecoders(stores.weights).propose(options.name, recipe.name),
            version="training",
            task="training of a decoder",
            config={"network": "linear", "recipe": recipe.name, "random_weights": recipe.random_weights},
            weights_sha256="",
            licence="",
        ),
        params={"inputs": planned.inputs[0].model_dump(mode="json"), "spaces": spaces, "by_session": planned.by_session,
                "steps": 1},
        notes=planned.notes,
    )  # fmt: skip


class OpenLinearTraining:
    """The betas of a job mapped into memory, its pictures, and what is held out."""

    at_once = 1

    def __init__(self, stores: Stores, job: Job, device: str) -> None:
        self._stores, self._job, self._device = stores, job, find_device(device)
        self._folder = stores.cache / "trainings" / str(job.id)
        self._options = options = LinearOptions(**job.params["options"])
        self._recipe = find_linear_recipe(job.recipe.removeprefix(PREFIX))
        if job.seed:
            self._recipe = self._recipe.model_copy(update={"seed": job.seed})
        self._inputs, self._album = BetasInput(**job.params["inputs"]), Album(SHOWN_SIDE)
        with stores.sessions() as session:
            self._seen = read_seen_trials(
                session, stores, self._inputs, job.dataset.simulated, self._album, self._folder / "betas.npy"
            )
        default = "training-rows-per-session" if job.params["by_session"] else "training-rows"
        self._normalisation = options.normalisation or default
        (self._seen,), self._held_out, self._chosen = hold_out(
            (self._seen,), options.held_out, options.held_out_share, self._recipe.seed, frozenset(), self._album.read
        )
        self._subject = prepare_subject(self._seen, self._held_out, self._normalisation, options.sessions)
        self._keys = [self._subject.training.pictures[row] for row in self._subject.training.rows.tolist()]

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Make targets, fit, check on held-out pictures, and keep the decoder."""
        from voxelight.app.pipelines.decoder_oracle import tell_stored_oracle
        from voxelight.app.pipelines.linear_check import check_linear

        def on_step(_done: int, _total: int) -> None:
            go_on()

        for run in runs:
            go_on()
            tables = self._make_targets(on_step)
            fitted = self._fit(tables, on_step)
            space = self._recipe.compared(tables)
            checked = check_linear(
                fitted, space, tables[space], (self._seen, self._subject), self._recipe, self._normalisation
            )
            with self._stores.sessions() as session:
                oracle = tell_stored_oracle(
                    session, self._stores, self._inputs, (self._seen, self._subject), checked.scores
                )
            yield run, self._keep(fitted, space, checked, oracle)

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Hand out the card; forget targets in their order and the mapped betas."""
        return hand_out(self._stores, self._folder, self._job.model.name, runs)

    def _make_targets(self, on_step: Callable[[int, int], None]) -> dict[str, TargetTable]:
        from voxelight.app.pipelines.linear_targets import fill_targets, tell_words

        keys = list(dict.fromkeys([*self._keys, *self._subject.test]))
        words = tell_words(self._seen, self._options.captions) if self._options.captions else {}
        return {
            space: fill_targets(self._recipe, space, keys, self._album, words, self._stores, self._device, on_step)
            for space in self._job.params["spaces"]
        }

    def _fit(self, tables: dict[str, TargetTable], on_step: Callable[[int, int], None]) -> Path:
        """Fit into a folder of the job, unless an earlier start of it did."""
        import numpy as np

        from voxelight.app.linear import fit_into
        from voxelight.app.pipelines.linear_targets import order_targets

        folder = self._folder / "linear"
        if not folder.is_dir():
            pictures = list(dict.fromkeys(self._keys))
            targets = {
                space: order_targets(self._folder / "targets" / space, table, pictures, self._recipe.targets[space])
                for space, table in tables.items()
            }
            betas = np.asarray(self._subject.training.read(self._subject.training.rows), np.float32)
            told = (self._recipe, self._options.precision, self._seen.betas.simulated)
            fit_into(folder, betas, self._keys, targets, told, self._device, on_step)
        return folder

    def _keep(self, fitted: Path, space: str, checked: "Checked", oracle: str) -> Outcome:
        job, decoders, name = self._job, TrainedDecoders(self._stores.weights), self._job.model.name
        provenance = self._describe(space, checked) | {"oracle": {self._inputs.subject: oracle}}
        decoder = TrainedDecoder(
            name=name,
            profile=self._recipe.name,
            config={"network": "linear", "spaces": list(job.params["spaces"]), "compared": space},
            subjects=((self._inputs.subject, int(self._seen.betas.values.shape[1])),),
            normalisation=self._normalisation,
            simulated=self._seen.betas.simulated,
            licence=job.dataset.licence,
            source=job.dataset.source,
            provenance=provenance,
        )
        kept = decoders.write_linear(
            replace(decoder, card=self._write_card(decoder)),
            fitted,
            self._subject.statistics,
            frozenset(self._keys),
            is_own(self._stores, job),
        )
        written = Provenance(
            recipe=self._recipe.name, weights_sha256=kept.sha256, revision=find_revision(), seed=self._recipe.seed,
            device=self._device, options={"held_out": self._chosen, "recipe": self._recipe.model_dump(mode="json"),
                                          "spaces": job.params["spaces"], "precision": self._options.precision},
        )  # fmt: skip
        return Outcome(
            files=(tell_scores(kept, _TOLD),),
            provenance=describe(written, self._inputs.hashes),
            scores=as_scores(kept),
        )

    def _describe(self, space: str, checked: "Checked") -> dict[str, Any]:
        job, subject, label = self._job, self._subject, self._inputs.subject
        training, random = subject.training, self._recipe.random_weights
        conditions = {
            "test_set": self._chosen,
            "sessions": f"{training.session_count()} of {len(set(training.sessions))}",
            "trials": "averaged",
            "normalisation": self._normalisation,
            "reference": f"{len(subject.test)} pictures in the space {space}",
            "random_weights": random,
            "seed": self._recipe.seed,
        }
        rows = [{"name": s.name, "value": s.value, "low": s.low, "high": s.high, **s.detail} for s in checked.scores]
        return {
            "job": str(job.id),
            "inputs_sha256": self._inputs.hashes,
            "recipe": self._recipe.model_dump(mode="json"),
            "spaces": checked.spaces,
            "device": self._device,
            "revision": find_revision(),
            "data": {"name": job.dataset.name, "licence": job.dataset.licence, "source": job.dataset.source},
            "held_out": self._chosen,
            "held_out_pictures": sorted(subject.test),
            "conditions": {label: conditions},
            "scores": {label: rows},
            "by_distance": {},
            "bottleneck": {label: {"k": []}},
            "guards": [guard.line() for guard in checked.guards],
            "random_encoder": random,
        }

    def _write_card(self, decoder: TrainedDecoder) -> str:
        told = decoder.provenance
        spaces = "; ".join(f"`{name}`, penalty {', '.join(map(str, a))}" for name, a in told["spaces"].items())
        return join_card(
            decoder,
            {
                "predicts": spaces,
                "subject": f"{self._inputs.subject} ({decoder.subjects[0][1]} voxels)",
                "data": f"{told['data']['name']}: {len(set(self._keys))} pictures in {len(self._keys)} trials",
                "source": decoder.source or "not stated",
                "licence of the data": decoder.licence or "not stated",
                "held out": self._chosen,
                "betas": decoder.normalisation,
                "recipe": f"`{self._recipe.name}`, ridge, folds of whole pictures, seed {self._recipe.seed}",
                "made by": f"{told['revision']}, {self._device}",
            },
        )


PIPELINE = Pipeline(
    list_recipes=show_recipes,
    plan=plan,
    open=OpenLinearTraining,
    step_size=1,
    options=LinearOptions,
    takes=PARTS,
)
