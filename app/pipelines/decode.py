"""Decode betas to CLIP tokens, captions and pictures with a trained decoder: one stimulus, one item."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from sqlalchemy.orm import Session

from voxelight.app.pipelines import Item, ModelFacts, OpenPipeline, Pipeline, Plan, check_options
from voxelight.app.pipelines.decoded import Recording, describe_job, describe_run
from voxelight.app.pipelines.inputs import PARTS, BetasInput, ask_consent, find_betas, note_alignment, read_betas
from voxelight.app.pipelines.linear_recipes import find_linear, list_linear, tell_licence
from voxelight.app.pipelines.profiles import (
    find_decoding_profile,
    find_licences,
    find_trained,
    list_decoding_profiles,
    standardise_betas,
)
from voxelight.app.provenance import find_device
from voxelight.app.schemas import JobRequest, RecipeAnswer
from voxelight.models.errors import BadInput
from voxelight.models.records import hash_parts
from voxelight.models.weights import find_part_sha256
from voxelight.neuro.linear import find_linear_recipe
from voxelight.neuro.linear.recipe import FIRST_GUESS
from voxelight.neuro.profiles import GenerationOptions, Profile, check_trials
from voxelight.storage.decoders import TrainedDecoders
from voxelight.storage.joblog import add_event
from voxelight.storage.results import JobOutcome, Outcome
from voxelight.storage.schema import Dataset, Job, Run
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.neuro.reconstruct import Decoded as Found

_STEP = 64
_BATCHES_A_VISIT = 8  # where networks move to the card and back, so that they move seldom


class DecodeOptions(GenerationOptions):
    """What a decoding job can set beside its profile.

    Parameters
    ----------
    subject : whose decoder, of those that the profile has; left out, the first
    mask : id of the volume that marks the region, where the data set holds several
    generator : of a linear decoder; left out, its first, ``first-guess`` for its ridge to small pictures
    """

    samples: int = Field(1, ge=1, le=64)
    subject: str | None = None
    mask: uuid.UUID | None = None
    generator: str | None = None

    @property
    def generation(self) -> GenerationOptions:
        """What the networks are told."""
        return GenerationOptions(**self.model_dump(include=set(GenerationOptions.model_fields)))


def show_recipes(weights: Path) -> list[RecipeAnswer]:
    """Return the profiles that a person chooses from, and the decoders that were trained here.

    Whether the weights of a profile are here is said at submission.
    """
    linear = [
        RecipeAnswer(
            name=decoder.name,
            kind="decode",
            title=f"{decoder.name}: fitted here{' on SIMULATED betas' if decoder.simulated else ''}",
            summary=f"Decodes {decoder.subjects[0][0]} by ridge to {', '.join(decoder.config['spaces'])}, "
            f"as {decoder.profile} does.",
            model=decoder.name,
            weights_sha256=decoder.sha256,
            licence=tell_licence(decoder),
            random_weights=recipe.random_weights,
            generators=[*recipe.generators, FIRST_GUESS],
        )
        for decoder in list_linear(weights)
        for recipe in [find_linear_recipe(decoder.profile)]
    ]
    return linear + [
        RecipeAnswer(
            name=profile.name,
            kind="decode",
            title=profile.title,
            summary=profile.summary,
            model=profile.name,
            weights_sha256="" if (trained := find_trained(weights, profile.name)) is None else trained.sha256,
            licence=find_licences(weights, profile),
            random_weights=profile.random_weights,
        )
        for profile in list_decoding_profiles(weights)
    ]


def plan(session: Session, stores: Stores, dataset: Dataset, request: JobRequest) -> Plan:
    """Check consent, weights and betas, and list the stimuli.

    Raises
    ------
    Refused
        The data set has no consent or no purpose.
    Unavailable
        Weights that the job needs were not fetched.
    NotFound
        The profile has no decoder for the subject.
    BadInput
        Inputs are missing, ambiguous, damaged, have another number of voxels than the decoder, or were measured where
        the decoder is that of a simulated subject.
    """
    ask_consent(dataset)
    options = check_options(DecodeOptions, request.options)
    if find_linear(stores.weights, request.recipe) is not None:
        from voxelight.app.pipelines import decode_linear

        return decode_linear.plan(session, stores, dataset, request, options)
    profile = find_decoding_profile(stores.weights, request.recipe, options.subject)
    refuse_measured(profile.name, profile.simulated, dataset)
    if options.generator is not None:
        raise BadInput(f"the generator {options.generator!r} for {profile.name}", "a linear decoder with several",
                       "Leave it out.")  # fmt: skip
    model = _describe_model(profile, stores.weights, options)
    inputs, notes = find_betas(session, dataset, request, options.mask)
    betas, _ = read_betas(session, stores, inputs, dataset.simulated)
    check_trials(profile, [betas.values])
    standardise_betas(stores.weights, request.recipe, options.subject, betas)
    return Plan(
        items=tuple(
            Item(key=stimulus, scan_id=inputs.betas, subject_id=inputs.subject_id)
            for stimulus in dict.fromkeys(betas.stimulus_ids.tolist())
        ),
        model=model,
        params={"inputs": inputs.model_dump(mode="json")},
        notes=(*notes, *note_alignment(inputs, betas)),
    )


class OpenDecoding:
    """Betas and pictures of one job in memory; its networks are those of the worker."""

    def __init__(self, stores: Stores, job: Job, device: str) -> None:
        from voxelight.app.pipelines.loaded import find_gallery, find_networks
        from voxelight.storage.cache import StageCache

        options = DecodeOptions(**job.params["options"])
        inputs = BetasInput(**job.params["inputs"])
        with stores.sessions() as session:
            betas, stimuli = read_betas(session, stores, inputs, job.dataset.simulated)
        betas, normalisation = standardise_betas(stores.weights, job.recipe, options.subject, betas)
        self._stores, self._job_id = stores, job.id
        self._profile = find_decoding_profile(stores.weights, job.recipe, options.subject)
        self._options = self._profile.limit(options.generation)
        self._device = find_device(device)
        self._cache = StageCache(stores.cache)
        # The encoder goes before the networks come, so that both need not fit at once.
        gallery = find_gallery(self._profile, stores.weights, self._options, self._device, stimuli, self._cache)
        self._recording = Recording(
            betas=betas,
            stimuli=stimuli,
            gallery=gallery,
            options=options.model_dump(mode="json", exclude_none=True),
            inputs=inputs.hashes,
            profile=self._profile,
            seed=job.seed,
            device=self._device,
            normalisation=normalisation,
            trained_on=_find_pictures(stores, job.recipe),
        )
        plan = find_networks(self._profile, stores.weights, self._options, self._device).plan
        self._batch = plan.batch
        images = plan.batch * (_BATCHES_A_VISIT if plan.offloaded else 1)
        self.at_once = max(1, images // self._options.samples)

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Decode stimuli together; what one gives depends neither on its neighbours nor on their number."""
        yield from decode_together([(self, run) for run in runs], go_on)

    def decode(self, parts: "Sequence[tuple[OpenDecoding, Run]]", go_on: Callable[[], None]) -> list[list["Found"]]:
        """Return what each stimulus gives, whichever job it is of, by the networks and options that they share.

        Where the device runs out of memory, half as many images go through the networks at once from then on.
        """
        from voxelight.app.pipelines.loaded import find_networks
        from voxelight.neuro.memory import OutOfMemory
        from voxelight.neuro.reconstruct import reconstruct

        samples = self._options.samples
        while True:
            networks = find_networks(self._profile, self._stores.weights, self._options, self._device)
            try:
                found = reconstruct(
                    replace(networks, plan=replace(networks.plan, batch=self._batch)),
                    [opened._recording.find_trials(run.item_key) for opened, run in parts],
                    [opened._recording.find_seed(run.item_key) for opened, run in parts],
                    self._options,
                    on_step=lambda _done, _total: go_on(),
                    cache=self._cache,
                )
            except OutOfMemory as problem:
                if self._batch == 1:
                    raise
                shortage = problem.found
            else:
                return [found[start : start + samples] for start in range(0, len(found), samples)]
            # Outside the handler, which would keep what the failed attempt holds.
            before, self._batch = self._batch, self._batch // 2
            for opened in {id(opened): opened for opened, _ in parts}.values():
                opened._go_smaller(before, self._batch, shortage)

    def _go_smaller(self, before: int, batch: int, shortage: str) -> None:
        """Say in log and provenance that fewer images go through the networks at once."""
        from torch import cuda

        known = self._recording.options
        told = {"batch": batch, "batch_before_shortage": known.get("batch_before_shortage", before)}
        self._recording = replace(self._recording, options=known | told)
        if cuda.is_available():
            cuda.empty_cache()
        with self._stores.sessions.begin() as session:
            message = f"Found {shortage}: goes on with {batch} at once, in place of {before}."
            add_event(session, self._job_id, message, level="warning")

    def describe(self, item: str, found: list["Found"]) -> Outcome:
        """Return what is kept of one stimulus of this job."""
        return describe_run(self._recording, item, found)

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Draw the contact sheet and score what can be scored."""
        return describe_job(self._stores, self._recording, runs)


def decode_together(
    parts: Sequence[tuple[OpenPipeline, Run]], go_on: Callable[[], None]
) -> Iterator[tuple[Run, Outcome]]:
    """Decode stimuli of several jobs that share recipe and options in one batch; each is described by its own job."""
    own = [(opened, run) for opened, run in parts if isinstance(opened, OpenDecoding)]
    if len(own) < len(parts):  # linear decoders have nothing to share
        for opened, run in parts:
            yield from opened.run_items([run], go_on)
        return
    found = own[0][0].decode(own, go_on)
    # Pictures are compressed beside each other: one by one it would take longer than a card takes to make them.
    with ThreadPoolExecutor() as pool:
        outcomes = pool.map(lambda part, some: part[0].describe(part[1].item_key, some), own, found)
        yield from zip([run for _, run in own], outcomes, strict=True)


def _find_pictures(stores: Stores, name: str) -> frozenset[str] | None:
    """Return the hashes of what a decoder was trained on, where that is recorded here."""
    trained = find_trained(stores.weights, name)
    return None if trained is None else TrainedDecoders(stores.weights).read_pictures(name)


def refuse_measured(name: str, simulated: bool, dataset: Dataset) -> None:
    """Refuse measured betas for the decoder of a simulated subject.

    Raises
    ------
    BadInput
        The decoder is of one, and the data set is not marked as simulated.
    """
    if simulated and not dataset.simulated:
        raise BadInput(
            f"the data set {dataset.name}, which is not marked as simulated",
            f"betas of the simulated subject that the decoder of {name} was fitted to",
            "Take a profile with a decoder of this person; what this one made of measured betas would mean nothing.",
        )


def open_decoding(stores: Stores, job: Job, device: str) -> OpenPipeline:
    """Open a job of decoding, by a profile or by a linear decoder."""
    if find_linear(stores.weights, job.recipe) is not None:
        from voxelight.app.pipelines.decode_linear import OpenLinearDecoding

        return OpenLinearDecoding(stores, job, device)
    return OpenDecoding(stores, job, device)


def _describe_model(profile: Profile, weights: Path, options: DecodeOptions) -> ModelFacts:
    """Name the model by the weights that the job needs; those of random ones are hashed when they are drawn."""
    config = {
        "random_weights": profile.random_weights,
        "space": profile.space,
        "weights": profile.weights,
        "parts": {name: part.model_dump(mode="json") for name, part in profile.parts.items()},
    }
    version, sha256 = f"seed {profile.random_seed}", ""
    parts = [part for part in profile.list_parts(options) if not profile.draws(part)]
    if parts:
        sha256 = hash_parts({part: find_part_sha256(weights, profile.weights[part], part) for part in parts})
        version = sha256[:12]
    return ModelFacts(profile.name, version, "decoding", config, sha256, find_licences(weights, profile))


PIPELINE = Pipeline(
    list_recipes=show_recipes,
    plan=plan,
    open=open_decoding,
    step_size=_STEP,
    options=DecodeOptions,
    takes=PARTS,
    mix=decode_together,
)
