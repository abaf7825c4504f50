"""Decode betas to CLIP tokens, captions and pictures with a trained decoder: one stimulus, one item."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pydantic import Field
from sqlalchemy.orm import Session

from voxelight.app.pipelines import Item, ModelFacts, Pipeline, Plan, check_options
from voxelight.app.pipelines.decoded import Recording, describe_job, describe_run
from voxelight.app.pipelines.inputs import PARTS, BetasInput, ask_consent, find_betas, read_betas
from voxelight.app.provenance import find_device
from voxelight.app.schemas import JobRequest, RecipeAnswer
from voxelight.models.published import find_published
from voxelight.models.records import hash_parts
from voxelight.models.weights import find_part_sha256
from voxelight.neuro.profiles import GenerationOptions, Profile, check_trials, find_profile, list_profiles
from voxelight.storage.results import JobOutcome, Outcome
from voxelight.storage.schema import Dataset, Job, Run
from voxelight.storage.stores import Stores

_STEP = 64
_BATCHES_A_VISIT = 8  # where networks move to the card and back, so that they move seldom
_LICENCE_LETTERS = 200


class DecodeOptions(GenerationOptions):
    """What a decoding job can set beside its profile.

    Parameters
    ----------
    subject : whose decoder, of those that the profile has; left out, the first
    mask : id of the volume that marks the region, where the data set holds several
    """

    samples: int = Field(1, ge=1, le=64)
    subject: str | None = None
    mask: uuid.UUID | None = None

    @property
    def generation(self) -> GenerationOptions:
        """What the networks are told."""
        return GenerationOptions(**self.model_dump(include=set(GenerationOptions.model_fields)))


def show_recipes(_: Path) -> list[RecipeAnswer]:
    """Return the profiles that a person chooses from; whether their weights are here is said at submission."""
    return [
        RecipeAnswer(
            name=profile.name,
            kind="decode",
            title=profile.title,
            summary=profile.summary,
            model=profile.name,
            weights_sha256="",
            licence=_find_licence(profile),
            random_weights=profile.random_weights,
        )
        for profile in map(find_profile, list_profiles())
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
        Inputs are missing, ambiguous, damaged, or have another number of voxels than the decoder.
    """
    ask_consent(dataset)
    options = check_options(DecodeOptions, request.options)
    profile = _find_profile(request.recipe, options)
    model = _describe_model(profile, stores.weights, options)
    inputs, notes = find_betas(session, dataset, request, options.mask)
    betas, _ = read_betas(session, stores, inputs, dataset.simulated)
    check_trials(profile, [betas.values])
    return Plan(
        items=tuple(
            Item(key=stimulus, scan_id=inputs.betas, subject_id=inputs.subject_id)
            for stimulus in dict.fromkeys(betas.stimulus_ids.tolist())
        ),
        model=model,
        params={"inputs": inputs.model_dump(mode="json")},
        notes=notes,
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
        self._stores = stores
        self._profile = _find_profile(job.recipe, options)
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
        )
        plan = find_networks(self._profile, stores.weights, self._options, self._device).plan
        images = plan.batch * (_BATCHES_A_VISIT if plan.offloaded else 1)
        self.at_once = max(1, images // self._options.samples)

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Decode stimuli together; what one gives depends neither on its neighbours nor on their number."""
        from voxelight.app.pipelines.loaded import find_networks
        from voxelight.neuro.reconstruct import reconstruct

        networks = find_networks(self._profile, self._stores.weights, self._options, self._device)
        found = reconstruct(
            networks,
            [self._recording.find_trials(run.item_key) for run in runs],
            [self._recording.find_seed(run.item_key) for run in runs],
            self._options,
            on_step=lambda _done, _total: go_on(),
            cache=self._cache,
        )
        samples = self._options.samples
        parts = [found[start : start + samples] for start in range(0, len(found), samples)]
        # Pictures are compressed beside each other: one by one it would take longer than a card takes to make them.
        with ThreadPoolExecutor() as pool:
            outcomes = pool.map(partial(describe_run, self._recording), [run.item_key for run in runs], parts)
            yield from zip(runs, outcomes, strict=True)

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Draw the contact sheet and score what can be scored."""
        return describe_job(self._stores, self._recording, runs)


def _find_profile(name: str, options: DecodeOptions) -> Profile:
    profile = find_profile(name)
    return profile if options.subject is None else profile.select_subject(options.subject)


def _describe_model(profile: Profile, weights: Path, options: DecodeOptions) -> ModelFacts:
    """Name the model by the weights that the job needs; those of random ones are hashed when they are drawn."""
    config = {
        "random_weights": profile.random_weights,
        "space": profile.space,
        "weights": profile.weights,
        "parts": {name: part.model_dump(mode="json") for name, part in profile.parts.items()},
    }
    version, sha256 = f"seed {profile.random_seed}", ""
    if not profile.random_weights:
        found = {part: find_part_sha256(weights, profile.weights[part], part) for part in profile.list_parts(options)}
        sha256 = hash_parts(found)
        version = sha256[:12]
    return ModelFacts(profile.name, version, "decoding", config, sha256, _find_licence(profile))


def _find_licence(profile: Profile) -> str:
    licences = dict.fromkeys(find_published(name).licence for name in profile.weights.values())
    return ", ".join(licences)[:_LICENCE_LETTERS]


PIPELINE = Pipeline(
    list_recipes=show_recipes,
    plan=plan,
    open=OpenDecoding,
    step_size=_STEP,
    options=DecodeOptions,
    takes=PARTS,
)
