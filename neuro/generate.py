"""The stages after the tokens, for all images of a call before the next stage, in batches."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelight.models.diffusion.presets import PRESETS, REFINEMENT_PRESETS, SamplingPreset
from voxelight.neuro import stages
from voxelight.neuro.caption import caption_tokens
from voxelight.neuro.memory import TOKEN_BATCH
from voxelight.neuro.networks import Networks
from voxelight.neuro.profiles import GenerationOptions

# Part of every key of the cache: raise it when a stage begins to compute something else.
_RECKONING = 1

Arrays = Mapping[str, NDArray[Any]]
OnStep = Callable[[int, int], None]


class StageCache(Protocol):
    """Where results of stages are kept between runs."""

    def find(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays under a key, or None where there are none or they are damaged."""

    def write(self, key: str, arrays: Arrays) -> None:
        """Keep arrays under a key."""


@dataclass(frozen=True)
class Item:
    """One result to be: which trial, which seed, and the hash of what it is made from."""

    image: int
    seed: int
    source: str


class Progress:
    """Counts denoising steps over all stages and batches."""

    def __init__(self, on_step: OnStep | None, total: int) -> None:
        self._on_step = on_step
        self._total = max(total, 1)
        self._done = 0

    def check(self) -> None:
        """Give the caller a chance to stop."""
        if self._on_step is not None:
            self._on_step(self._done, self._total)

    def advance(self, _done: int, _total: int) -> None:
        """Say that a step is about to begin."""
        self.check()
        self._done += 1


@dataclass(frozen=True, eq=False)
class Run:
    """One call: what it is made of, in which batches, and where stages are kept."""

    networks: Networks
    options: GenerationOptions
    items: list[Item]
    cache: StageCache | None

    @property
    def preset(self) -> SamplingPreset:
        """How unrefined images are sampled."""
        preset, guidance = PRESETS[self.options.preset], self.networks.profile.guidance
        return preset if guidance is None else preset.model_copy(update={"guidance": guidance})

    @property
    def refinement(self) -> SamplingPreset:
        """How they are refined."""
        return REFINEMENT_PRESETS[self.options.preset]

    def batches(self, numbers: Sequence[int], size: int | None = None) -> Iterator[list[int]]:
        """Yield the numbers of items in batches, of the plan's size if no other is given."""
        size = size or self.networks.plan.batch
        yield from (list(numbers[start : start + size]) for start in range(0, len(numbers), size))

    def count_batches(self, count: int, size: int | None = None) -> int:
        """Return the number of batches of that many items."""
        return -(-count // (size or self.networks.plan.batch))

    def seeds(self, numbers: Sequence[int]) -> list[int]:
        """Return the seeds of items."""
        return [self.items[number].seed for number in numbers]

    def look_up(self, stage: str, item: Item) -> Arrays | None:
        """Return what an earlier run kept of a stage."""
        return None if self.cache is None else self.cache.find(self._key(stage, item))

    def look_up_unrefined(self) -> list[Arrays | None]:
        """Return the unrefined images that an earlier run kept, if this run gets as far."""
        reached = self.options.reaches("unrefined")
        return [self.look_up("unrefined", item) if reached else None for item in self.items]

    def keep(self, stage: str, item: Item, arrays: Arrays) -> Arrays:
        """Keep what a stage gave, and return it."""
        if self.cache is not None:
            self.cache.write(self._key(stage, item), arrays)
        return arrays

    def count_image_steps(self, unrefined: Sequence[Arrays | None]) -> int:
        """Return the denoising steps after the tokens."""
        steps = 0
        if self.options.reaches("unrefined"):
            steps += (len(self.preset.sigmas()) - 1) * self.count_batches(sum(entry is None for entry in unrefined))
        if self.options.reaches("refined"):
            steps += (len(self.refinement.sigmas()) - 1) * self.count_batches(len(self.items))
        return steps

    def _key(self, stage: str, item: Item) -> str:
        profile, options = self.networks.profile, self.options
        parts: list[Any] = [_RECKONING, stage, item.source, item.seed, options.dtype, self.networks.device.type]
        parts.append(options.prior_steps or profile.prior_steps)
        if stage == "unrefined":
            weights = self.networks.hash_parts(["unclip", "autoencoder"])
            parts += [weights, profile.side, self.preset.model_dump_json()]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class Generated(NamedTuple):
    """What the stages gave, None beyond the stop.

    captions : one an image; blurry, unrefined, refined, image : tensor (image, 3, h, w) in [0, 1]
    """

    captions: list[str] | None
    blurry: Tensor | None
    unrefined: Tensor | None
    refined: Tensor | None
    image: Tensor | None


def generate(run: Run, entries: Sequence[Arrays], known: Sequence[Arrays | None], progress: Progress) -> Generated:
    """Do the stages after the tokens, each for all images before the next, so that a part moves in once.

    Parameters
    ----------
    run : Run
    entries : `tokens` (token, dim) of each item, and `blurry_latent` (4, 28, 28) where there is one
    known : unrefined `image` (3, side, side) of each item, where an earlier run kept it
    progress : Progress
    """
    tokens = _stack(entries, "tokens")
    captions = _caption(run, tokens, progress) if run.options.reaches("caption") else None
    if captions is None or not run.options.reaches("unrefined"):
        return Generated(captions, None, None, None, None)
    unrefined = _sample_unrefined(run, tokens, known, progress)
    blurry = _decode_blurry(run, entries, progress)
    if not run.options.reaches("refined"):
        return Generated(captions, blurry, unrefined, None, stages.resize(unrefined, run.networks.profile.result_side))
    refined = _refine(run, unrefined, captions, progress)
    return Generated(captions, blurry, unrefined, refined, _finish(run, refined, blurry))


def _caption(run: Run, tokens: Tensor, progress: Progress) -> list[str]:
    captions: list[str] = []
    with run.networks.on_device("converter", "captioner"):
        for some in run.batches(range(len(tokens)), TOKEN_BATCH):
            progress.check()
            captions += caption_tokens(run.networks, tokens[some])
    return captions


def _sample_unrefined(run: Run, tokens: Tensor, known: Sequence[Arrays | None], progress: Progress) -> Tensor:
    missing = [number for number, entry in enumerate(known) if entry is None]
    found: dict[int, Tensor] = {
        number: torch.from_numpy(np.array(entry["image"])) for number, entry in enumerate(known) if entry is not None
    }
    latents: list[Tensor] = []
    with run.networks.on_device("unclip"):
        for some in run.batches(missing):
            progress.check()
            latents.append(
                stages.sample_unclip(run.networks, tokens[some], run.seeds(some), run.preset, progress.advance)
            )
    with run.networks.on_device("autoencoder"):
        for some, latent in zip(run.batches(missing), latents, strict=True):
            progress.check()
            for number, image in zip(some, stages.decode_unclip(run.networks, latent), strict=True):
                run.keep("unrefined", run.items[number], {"image": image.numpy()})
                found[number] = image
    return torch.stack([found[number] for number in range(len(run.items))])


def _decode_blurry(run: Run, entries: Sequence[Arrays], progress: Progress) -> Tensor | None:
    if "blurry" not in run.networks.parts or any("blurry_latent" not in entry for entry in entries):
        return None
    latents = _stack(entries, "blurry_latent")
    images = []
    with run.networks.on_device("blurry"):
        for some in run.batches(range(len(entries))):
            progress.check()
            images.append(stages.decode_blurry(run.networks, latents[some]))
    return torch.cat(images)


def _refine(run: Run, images: Tensor, captions: Sequence[str], progress: Progress) -> Tensor:
    networks, everything = run.networks, range(len(run.items))
    with networks.on_device("text"):
        texts = [
            stages.condition_on_text(networks, [captions[number] for number in some])
            for some in run.batches(everything)
        ]
    starts, latents, refined = [], [], []
    with networks.on_device("refiner_autoencoder"):
        for some in run.batches(everything):
            progress.check()
            starts.append(stages.encode_unrefined(networks, images[some], run.seeds(some)))
    with networks.on_device("refiner"):
        for some, start, text in zip(run.batches(everything), starts, texts, strict=True):
            latents.append(
                stages.sample_refined(networks, start, text, run.seeds(some), run.refinement, progress.advance)
            )
    with networks.on_device("refiner_autoencoder"):
        for latent in latents:
            progress.check()
            refined.append(stages.decode_refined(networks, latent))
    return torch.cat(refined)


def _finish(run: Run, refined: Tensor, blurry: Tensor | None) -> Tensor:
    profile = run.networks.profile
    if blurry is None:
        return stages.resize(refined, profile.result_side)
    return stages.blend(refined, blurry, profile.result_side, profile.refined_share)


def _stack(entries: Sequence[Arrays], name: str) -> Tensor:
    return torch.from_numpy(np.stack([entry[name] for entry in entries]))
