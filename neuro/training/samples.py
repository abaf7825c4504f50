"""The samples of every step: dealt, mixed and brought into memory, then placed on the device."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelight.models.decoders.mindeye2 import MindEye2Config
from voxelight.models.diffusion.noise import stage_generator
from voxelight.models.diffusion.prior import PriorConfig
from voxelight.models.errors import BadInput
from voxelight.models.training import processes
from voxelight.models.training.seeds import draw_normal
from voxelight.neuro.losses import Mixing, draw_mixing, mixco
from voxelight.neuro.training.batches import Rows, TrainingSubject, plan_epoch
from voxelight.neuro.training.objective import Draws, Samples, join_mixings
from voxelight.neuro.training.recipe import TrainingRecipe
from voxelight.neuro.training.targets import Targets


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a decoder is fitted to.

    Parameters
    ----------
    subjects : each gives the same number of trials to a batch
    targets : of every picture
    held_out : keys of pictures that are kept for the test; one among the training trials is refused
    """

    subjects: tuple[TrainingSubject, ...]
    targets: Targets
    held_out: frozenset[str]


class Dealt(NamedTuple):
    """Samples of a step in one process, without what is drawn on the device.

    Parameters
    ----------
    samples : on the CPU, or where targets are computed
    mixing : of the whole batch, numbered through; None where nothing is mixed
    """

    samples: Samples
    mixing: Mixing | None


class Dealer:
    """Deals samples by the number of the step.

    Parameters
    ----------
    data : subjects and targets
    recipe : of the training
    config : of the decoder
    pin : keep samples where a GPU fetches them without a stop

    Raises
    ------
    BadInput
        Data, recipe and decoder do not fit.
    Leak
        A held-out picture is among the training trials.
    Unavailable
        A target is missing.
    """

    def __init__(self, data: TrainingData, recipe: TrainingRecipe, config: MindEye2Config, pin: bool = False) -> None:
        _refuse_unfit(data.subjects, recipe, config)
        for subject in data.subjects:
            subject.refuse_held_out(data.held_out)
        self._subjects = [subject.first_sessions(recipe.sessions) for subject in data.subjects]
        self._targets, self._recipe, self._config, self._pin = data.targets, recipe, config, pin
        self.steps_an_epoch = recipe.steps_an_epoch(len(self._subjects))
        share = processes.share(recipe.batch)
        if share % recipe.micro_batches:
            raise BadInput(
                f"{share} samples of a subject in {recipe.micro_batches} parts",
                "equal parts",
                "Change `micro_batches`.",
            )
        self._own = slice(processes.rank() * share, (processes.rank() + 1) * share)
        self._plan = lru_cache(2)(self._plan_epoch)
        pictures = [subject.pictures[row] for subject in self._subjects for row in subject.rows.tolist()]
        data.targets.check(self._kinds(), pictures)

    def sha256(self) -> str:
        """Return the hash of subjects, trials and pictures."""
        return hashlib.sha256("\n".join(subject.sha256() for subject in self._subjects).encode()).hexdigest()

    def deal(self, number: int, mixed: bool) -> Dealt:
        """Read the samples of a step, mixed or not."""
        epoch, step = divmod(number, self.steps_an_epoch)
        rows = self._plan(epoch)[:, step]
        losses = self._recipe.losses
        chance = stage_generator(self._recipe.seed, f"mixing:{number}")
        each = (
            [draw_mixing(rows.shape[1], chance, losses.mixing_beta, losses.mixing_chosen) for _ in rows]
            if mixed
            else None
        )
        voxels = []
        for index, subject in enumerate(self._subjects):
            values = torch.from_numpy(subject.read(rows[index]))
            voxels.append((mixco(values, each[index]) if each else values)[self._own])
        samples = Samples(tuple(voxels), *self._read_targets(rows, each, number))
        return Dealt(
            _pinned(samples) if self._pin else samples, join_mixings(each, self._recipe.defects) if each else None
        )

    def place(self, dealt: Dealt, number: int, device: torch.device) -> Samples:
        """Return the samples on the device, with what the prior draws."""
        voxels = tuple(values.to(device, non_blocking=True) for values in dealt.samples.voxels)
        rest = (None if part is None else part.to(device, non_blocking=True) for part in dealt.samples[1:5])
        placed = Samples(voxels, *rest)  # type: ignore[arg-type]
        if not self._recipe.losses.prior or self._config.prior is None:
            return placed
        return placed._replace(draws=self._draw(self._config.prior, number, device))

    def _draw(self, prior: PriorConfig, number: int, device: torch.device) -> Draws:
        """Draw for the whole batch, and keep this process's part."""
        shape = (len(self._subjects), self._recipe.batch)
        chance = stage_generator(self._recipe.seed, f"prior:{number}")
        times = self._flat(chance.integers(prior.timesteps, size=shape))
        keeps = [self._flat(chance.random(shape) >= drop) for drop in (prior.brain_drop, prior.image_drop)]
        seeds = self._flat(chance.integers(2**63, size=shape))
        noise = draw_normal(seeds.tolist(), (prior.tokens, prior.dim), device)
        return Draws(move(times, device), noise, *(move(keep, device) for keep in keeps))

    def _flat(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values[:, self._own].reshape(-1))

    def _plan_epoch(self, epoch: int) -> Rows:
        chance = stage_generator(self._recipe.seed, f"trials:{epoch}")
        skip = self._recipe.defects.skipped_batches
        return plan_epoch(self._subjects, self.steps_an_epoch, self._recipe.batch, chance, skip)

    def _kinds(self) -> list[str]:
        losses = self._recipe.losses
        low_level = ["latent", *(["maps", "maps_aug"] if losses.contrast else [])]
        return ["tokens", *(low_level if losses.low_level else [])]

    def _read_targets(
        self, rows: Rows, each: Sequence[Mixing] | None, number: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Return tokens, latent, maps and maps of augmented pictures, as far as they are asked for."""
        kinds = self._kinds()
        keys = [
            [subject.pictures[row] for row in line] for subject, line in zip(self._subjects, rows.tolist(), strict=True)
        ]
        own = [key for line in keys for key in line[self._own]]
        found = {kind: self._targets.read(kind, own, number) for kind in kinds if kind != "latent"}
        if "latent" in kinds and each and not self._recipe.defects.unmixed_latents:
            # A partner may be another process's sample.
            lines = (self._targets.read("latent", line, number).float() for line in keys)
            found["latent"] = torch.cat(
                [mixco(line, mixing)[self._own] for line, mixing in zip(lines, each, strict=True)]
            )
        elif "latent" in kinds:
            found["latent"] = self._targets.read("latent", own, number)
        return found["tokens"], found.get("latent"), found.get("maps"), found.get("maps_aug")


def move(values: Tensor, device: torch.device) -> Tensor:
    """Return values on a device without waiting for what it does, as a copy from pageable memory would."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def _pinned(samples: Samples) -> Samples:
    def pin(part: Tensor | None) -> Tensor | None:
        return part if part is None or part.is_cuda else part.pin_memory()

    return Samples(tuple(values.pin_memory() for values in samples.voxels), *(pin(part) for part in samples[1:5]))  # type: ignore[arg-type]


def _refuse_unfit(subjects: Sequence[TrainingSubject], recipe: TrainingRecipe, config: MindEye2Config) -> None:
    voxels = tuple(subject.voxels.shape[1] for subject in subjects)
    if voxels != config.voxels:
        raise BadInput(
            f"subjects of {', '.join(map(str, voxels))} voxels",
            f"those of the decoder, {', '.join(map(str, config.voxels))}",
            "Build the decoder for these subjects, in this order.",
        )
    if config.seq_len != 1:
        raise BadInput(f"a sequence of {config.seq_len} entries", "1, as in every released model", "Set seq_len to 1.")
    lacking = [
        name
        for name, weight, has in (
            ("prior", recipe.losses.prior, config.prior is not None),
            ("low_level", recipe.losses.low_level, config.low_level),
        )
        if weight and not has
    ]
    if lacking:
        raise BadInput(
            f"a loss for {' and '.join(lacking)}, which the decoder does not have",
            "weights of 0 for parts that are not there",
            f"Set losses.{lacking[0]} to 0, or give the decoder that part.",
        )
    sessions = subjects[0].session_count()
    if len(subjects) == 1 and sessions < recipe.sessions:
        raise BadInput(
            f"training trials of {sessions} sessions of {subjects[0].name}",
            f"the {recipe.sessions} of the recipe",
            "Lower `sessions`, which also sets the length of an epoch.",
        )
