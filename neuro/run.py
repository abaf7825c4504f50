"""One call of the pipeline: its items, its batches, its progress, and what is kept of its stages."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from voxelight.models.diffusion.presets import PRESETS, REFINEMENT_PRESETS, SamplingPreset
from voxelight.neuro.networks import Networks
from voxelight.neuro.profiles import GenerationOptions

# Part of every key of the cache: raise it when a stage begins to compute something else.
_RECKONING = 1
# What an unrefined image depends on; those of image variation begin from a blurry one, and are chosen.
_UNREFINED = ("unclip", "autoencoder")
_VARIED = ("variation", "autoencoder", "blurry", "image_encoder")

Arrays = Mapping[str, NDArray[Any]]
OnStep = Callable[[int, int], None]


class StageCache(Protocol):
    """Where results of stages are kept between runs."""

    def find(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays under a key, or None where there are none or they are damaged."""

    def write(self, key: str, arrays: Arrays) -> None:
        """Keep arrays under a key."""


def derive_seed(seed: int, sample: int) -> int:
    """Return the seed of one sample of a trial: the trial's own for the first, else 63 bits of a SHA-256 of both."""
    if sample == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}:sample {sample}".encode()).digest()[:8], "big") >> 1


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

    def seeds(self, numbers: Sequence[int], candidate: int = 0) -> list[int]:
        """Return the seeds of items, or those of one of their candidates."""
        return [derive_seed(self.items[number].seed, candidate) for number in numbers]

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

    def _key(self, stage: str, item: Item) -> str:
        profile, options = self.networks.profile, self.options
        parts: list[Any] = [_RECKONING, stage, item.source, item.seed, options.dtype, self.networks.device.type]
        parts.append(options.prior_steps or profile.prior_steps)
        if profile.count_candidates(options) > 1:
            parts.append(profile.count_candidates(options))
        if profile.expected_tokens:
            parts.append("expected")
        if stage == "unrefined":
            varies = "variation" in profile.parts
            named = _VARIED if varies else _UNREFINED
            weights = self.networks.hash_parts([part for part in named if part in self.networks.part_sha256])
            parts += [weights, profile.side, self.preset.model_dump_json(), *([options.preset] if varies else [])]
        return hashlib.sha256(repr(parts).encode()).hexdigest()
