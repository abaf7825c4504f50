"""Decode betas with a linear decoder that was fitted here: one stimulus, one item, its trials averaged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from voxelight.app.pipelines import Item, ModelFacts, Plan
from voxelight.app.pipelines.decode import DecodeOptions, refuse_measured
from voxelight.app.pipelines.decoded import Recording, describe_job, describe_run
from voxelight.app.pipelines.inputs import BetasInput, find_betas, note_alignment, read_betas
from voxelight.app.pipelines.linear_recipes import find_generator, require_weights, tell_licence
from voxelight.app.pipelines.profiles import standardise_betas
from voxelight.app.provenance import find_device
from voxelight.app.schemas import JobRequest
from voxelight.models.errors import BadInput
from voxelight.models.records import hash_parts
from voxelight.models.values import Stimuli
from voxelight.neuro.linear import LinearRecipe, find_linear_recipe
from voxelight.neuro.linear.recipe import FIRST_GUESS, PIXELS, WORDS, Generator
from voxelight.storage.artifacts import hash_file
from voxelight.storage.decoders import TrainedDecoder, TrainedDecoders
from voxelight.storage.results import JobOutcome, Outcome
from voxelight.storage.schema import Dataset, Job, Run
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.neuro.reconstruct import Decoded

_AT_ONCE = 16
_NO_USE = {"preset", "prior_steps", "candidates", "batch", "memory", "dtype"}


@dataclass(frozen=True)
class LinearSource:
    """What decodes, as results name it."""

    name: str
    space: str
    random_weights: bool


def plan(session: Session, stores: Stores, dataset: Dataset, request: JobRequest, options: DecodeOptions) -> Plan:
    """Check options, networks and betas, and list the stimuli: see `decode.plan`, which has asked for consent.

    Raises
    ------
    BadInput
        An option has no use for a linear decoder, or the betas are not those of its subject.
    Unavailable
        What captions or draws is not here.
    """
    decoder = TrainedDecoders(stores.weights).find(request.recipe)
    decoder.find_subject(options.subject)
    refuse_measured(decoder.name, decoder.simulated, dataset)
    recipe, spaces = find_linear_recipe(decoder.profile), set(decoder.config["spaces"])
    parts = _find_parts(decoder, recipe, stores, options)
    generator = _choose(recipe, spaces, options, stores)
    if unused := sorted(_NO_USE & set(request.options)):
        raise BadInput(f"options {', '.join(unused)} for a linear decoder", "stop, samples, generator, subject, mask",
                       "Leave them out: its generator has steps of its own.")  # fmt: skip
    if options.samples > 1 and options.reaches("unrefined") and generator is None:
        raise BadInput(f"{options.samples} samples of {FIRST_GUESS}, which draws nothing", "1", "Ask for one.")
    inputs, notes = find_betas(session, dataset, request, options.mask)
    betas, _ = read_betas(session, stores, inputs, dataset.simulated)
    voxels = decoder.subjects[0][1]
    if betas.values.shape[1] != voxels or not np.isfinite(betas.values).all():
        raise BadInput(
            f"{betas.values.shape[1]} voxels, {int((~np.isfinite(betas.values)).sum())} betas not finite",
            f"finite ones of the {voxels} voxels that {decoder.name} was fitted to",
            "Choose the decoder of this subject, and the mask that its betas were taken with.",
        )
    standardise_betas(stores.weights, request.recipe, options.subject, betas)
    sha256 = hash_parts(parts)
    config = {"network": "linear", "random_weights": recipe.random_weights, "space": decoder.config["compared"],
              "recipe": recipe.name, "spaces": decoder.config["spaces"]}  # fmt: skip
    return Plan(
        items=tuple(
            Item(key=stimulus, scan_id=inputs.betas, subject_id=inputs.subject_id)
            for stimulus in dict.fromkeys(betas.stimulus_ids.tolist())
        ),
        model=ModelFacts(decoder.name, sha256[:12], "decoding", config, sha256, tell_licence(decoder)),
        params={"inputs": inputs.model_dump(mode="json")},
        notes=(*notes, *note_alignment(inputs, betas)),
    )


class OpenLinearDecoding:
    """Betas, pictures and networks of one job in memory; coefficients stay on the disk."""

    at_once = _AT_ONCE

    def __init__(self, stores: Stores, job: Job, device: str) -> None:
        from voxelight.app.pipelines.linear_targets import find_linear_gallery

        options, inputs = DecodeOptions(**job.params["options"]), BetasInput(**job.params["inputs"])
        with stores.sessions() as session:
            betas, stimuli = read_betas(session, stores, inputs, job.dataset.simulated)
        betas, normalisation = standardise_betas(stores.weights, job.recipe, options.subject, betas)
        self._stores, self._options = stores, options
        self._making = LinearMaking(stores, job.recipe, options, find_device(device))
        making = self._making
        gallery = find_linear_gallery(making.recipe, making.space, stimuli, stores, making.device)
        self._recording = Recording(
            betas=betas,
            stimuli=stimuli,
            gallery=gallery,
            options=options.model_dump(mode="json", exclude_none=True, exclude=_NO_USE) | making.facts,
            inputs=inputs.hashes,
            profile=LinearSource(job.recipe, making.space, making.recipe.random_weights),
            seed=job.seed,
            device=making.device,
            normalisation=normalisation,
            trained_on=TrainedDecoders(stores.weights).read_pictures(job.recipe),
        )

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Decode stimuli; what one gives depends neither on its neighbours nor on their number."""
        recording = self._recording
        for run in runs:
            go_on()
            means = recording.find_trials(run.item_key).mean(0, dtype=np.float64)[None]
            found = self._making.make(self._making.predict(means), [recording.find_seed(run.item_key)])
            yield run, describe_run(recording, run.item_key, found)

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Draw the contact sheet and score what can be scored."""
        return describe_job(self._stores, self._recording, runs)


class LinearMaking:
    """A linear decoder with what captions and draws from its predictions.

    Parameters
    ----------
    stores : whose weights
    name : of the decoder
    options : DecodeOptions
    device : e.g. ``cpu`` or ``cuda:0``
    """

    def __init__(self, stores: Stores, name: str, options: DecodeOptions, device: str) -> None:
        from voxelight.app.pipelines.linear_networks import load_captioner, load_generator
        from voxelight.storage.linear import open_linear

        decoders = TrainedDecoders(stores.weights)
        kept, self.device, self._options = decoders.find(name), device, options
        self.recipe, self.space = find_linear_recipe(kept.profile), str(kept.config["compared"])
        self.spaces = tuple(kept.config["spaces"])
        self._decoder, _ = open_linear(decoders.find_linear(name))
        self._sha256 = hash_parts(_find_parts(kept, self.recipe, stores, options))
        says = _says(self.recipe, set(self.spaces), options)
        self._captioner = load_captioner(self.recipe, stores.weights, device) if says else None
        self._generator = _choose(self.recipe, set(self.spaces), options, stores)
        self._drawer = None if self._generator is None else load_generator(self._generator, device)
        self.facts = _describe_generator(self._generator)

    def predict(self, betas: NDArray[np.floating[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return every space that was fitted: space -> array (item, ...), of betas (item, voxel)."""
        return {space: self._decoder.predict(betas, space).astype(np.float32) for space in self.spaces}

    def make(self, predicted: Mapping[str, NDArray[Any]], seeds: Sequence[int]) -> "list[Decoded]":
        """Return what every item and sample gives, the samples of an item together.

        Parameters
        ----------
        predicted : space -> array (item, ...)
        seeds : one an item
        """
        from voxelight.app.pipelines.linear_networks import caption_tokens
        from voxelight.app.pipelines.linear_targets import as_tokens
        from voxelight.neuro.reconstruct import Decoded
        from voxelight.neuro.run import derive_seed

        samples = self._options.samples
        captions: list[str] = []
        if self._captioner is not None:
            captions = caption_tokens(self._captioner, predicted["git"], self.recipe.caption_length, self.device)
        guesses = predicted[PIXELS].clip(0, 1) if PIXELS in predicted else None
        tokens = as_tokens(np.asarray(predicted[self.space], np.float32), self.space).values
        found = []
        for item, seed in enumerate(seeds):
            own = [derive_seed(seed, sample) for sample in range(samples)]
            images = self._draw(predicted, captions, guesses, item, own)
            found += [
                Decoded(
                    seed=each,
                    space=self.space,
                    tokens=tokens[item],
                    retrieval=tokens[item],
                    blurry=guesses[item] if guesses is not None and self._drawer is not None else None,
                    unrefined=None,
                    refined=None,
                    image=None if images is None else images[sample],
                    caption=captions[item] if captions else None,
                    weights_sha256=self._sha256,
                    random_weights=self.recipe.random_weights,
                )
                for sample, each in enumerate(own)
            ]
        return found

    def _draw(
        self, predicted: Mapping[str, NDArray[Any]], captions: Sequence[str],
        guesses: NDArray[np.float32] | None, item: int, seeds: Sequence[int],
    ) -> NDArray[np.float32] | None:  # fmt: skip
        """Return a picture for every seed of an item; None where the job stops before."""
        from voxelight.app.pipelines.linear_networks import Given, draw_pictures

        if not self._options.reaches("unrefined") or guesses is None:
            return None
        if self._generator is None:
            return np.repeat(guesses[item : item + 1], len(seeds), axis=0)

        def repeat(space: str) -> NDArray[Any] | None:
            return np.repeat(predicted[space][item : item + 1], len(seeds), axis=0) if space in predicted else None

        given = Given(
            captions=[captions[item]] * len(seeds) if captions else (),
            guesses=np.repeat(guesses[item : item + 1], len(seeds), axis=0),
            words=repeat(WORDS),
            seen=repeat("clip-vision"),
        )
        return draw_pictures(self._drawer, self._generator, given, seeds)


def generate_ceiling(stores: Stores, name: str, options: DecodeOptions, shown: Stimuli, device: str) -> "list[Decoded]":
    """Return what captioner and generator make of the targets of pictures themselves.

    Raises
    ------
    Unavailable
        The targets can't be made.
    BadInput
        The decoder predicts words, which a picture has none of.
    """
    from voxelight.app.pipelines.linear_targets import read_true

    making = LinearMaking(stores, name, options, device)
    if WORDS in making.spaces:
        raise BadInput(f"no true {WORDS} of pictures without captions", "a decoder of pictures' own spaces",
                       "Leave out --ceiling.")  # fmt: skip
    return making.make(read_true(making.recipe, making.spaces, shown, stores, device), range(len(shown.ids)))


def _says(recipe: LinearRecipe, spaces: set[str], options: DecodeOptions) -> bool:
    return recipe.captions and "git" in spaces and options.reaches("caption")


def _choose(recipe: LinearRecipe, spaces: set[str], options: DecodeOptions, stores: Stores) -> Generator | None:
    """Return what draws; None for the first guess, and where the job stops before."""
    if not options.reaches("unrefined"):
        return None
    return find_generator(recipe, spaces, options.generator, stores.weights)


def _find_parts(
    decoder: TrainedDecoder, recipe: LinearRecipe, stores: Stores, options: DecodeOptions
) -> dict[str, str]:
    """Return the hashes of what decodes; networks with random weights follow from the recipe."""
    parts = {"decoder": decoder.sha256}
    if _says(recipe, set(decoder.config["spaces"]), options) and recipe.captioner is not None:
        parts["captioner"] = require_weights(stores.weights, recipe.captioner)
    return parts


def _describe_generator(generator: Generator | None) -> dict[str, Any]:
    """Return the generator as provenance has it, with the hash of every file of weights."""
    if generator is None:
        return {}
    folder = Path(generator.checkpoint)
    hashes = {str(path.relative_to(folder)): hash_file(path) for path in sorted(folder.rglob("*.safetensors"))}
    told = generator.model_dump(mode="json") | {"checkpoint": folder.name}
    return {"generation": told, "generator_sha256": hash_parts(hashes)}
