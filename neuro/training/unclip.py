"""Teach the UNet of SDXL to draw pictures from CLIP image tokens (Scotti et al. 2024, after Ramesh et al. 2022)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.diffusion.noise import stage_generator
from voxelight.models.diffusion.samplers import OFFSET_NOISE
from voxelight.models.diffusion.schedules import SDXL_STEPS, all_sigmas
from voxelight.models.diffusion.unet import scale_to_input, size_vector
from voxelight.models.errors import BadInput
from voxelight.models.training import processes
from voxelight.models.training.loop import Hooks, LoopOptions, run
from voxelight.models.training.seeds import draw_normal, seeded
from voxelight.models.weights import load_into
from voxelight.neuro.training.plain import Descent, PlainTrainee
from voxelight.neuro.training.targets import Targets, hash_keys

_VECTOR = "class_embedding.linear_1.weight"
_NEW = (".attn2.to_k.weight", ".attn2.to_v.weight")


class UnclipDescent(Descent):
    """How the UNet is trained; the defaults are those of the released configuration.

    Parameters
    ----------
    offset : strength of the noise that is one number for a whole picture (Guttenberg 2023)
    uncond : share of pictures whose tokens are replaced by normal noise, which is what the published guidance starts
        from; the released configuration does not tell its own
    """

    steps: int = Field(110_000, gt=0)
    batch: int = Field(16, gt=0)
    learning_rate: float = Field(1e-5, gt=0)
    warm_up: int = Field(1000, ge=0)
    offset: float = Field(OFFSET_NOISE, ge=0)
    uncond: float = Field(0.1, ge=0, lt=1)


@dataclass(frozen=True, eq=False)
class UnclipData:
    """Pictures by key.

    Parameters
    ----------
    keys : of the pictures
    sizes : float (picture, 4), height and width before a picture was resized, top and left of its crop
    buckets : rows of pictures whose latents have one shape; a batch is of one of them
    targets : of the kinds ``picture_latent`` (4, h, w), of SDXL's autoencoder, scaled, and ``tokens`` (token, dim)
    """

    keys: tuple[str, ...]
    sizes: NDArray[np.float32]
    buckets: tuple[tuple[int, ...], ...]
    targets: Targets


class _Part(NamedTuple):
    latent: Tensor
    tokens: Tensor
    vector: Tensor
    noise: Tensor
    timesteps: Tensor


def start_unclip(unet: nn.Module, sdxl: Mapping[str, Tensor]) -> None:
    """Give a UNet the weights of SDXL base, but for the keys and values of its cross-attention, which stay fresh.

    SDXL's vector condition is pooled text and three sizes; as published, the first columns of its first map are kept.

    Parameters
    ----------
    unet : what `UNetConfig.build` returns
    sdxl : the state of SDXL base's UNet under the same names

    Raises
    ------
    BadInput
        Anything else is missing, too much or of another shape.
    """
    own = unet.state_dict()
    fresh = {name: value for name, value in own.items() if name.endswith(_NEW)}
    held = {name: value for name, value in sdxl.items() if not name.endswith(_NEW)}
    if _VECTOR in held:
        held[_VECTOR] = held[_VECTOR][:, : own[_VECTOR].shape[1]].clone()
    load_into(unet, held | fresh)


def fit_unclip(
    unet: nn.Module, data: UnclipData, descent: UnclipDescent, device: str, hooks: Hooks, options: LoopOptions
) -> bool:
    r"""Train a UNet to estimate the noise of latents, from the last checkpoint if there is one.

    .. math:: \| \epsilon_\theta(z + \sigma n, \sigma, \text{tokens}) - n \|^2, \quad
        n = \epsilon + 0.04\, o, \quad \sigma \text{ uniform over the 1000 of SDXL}

    Parameters
    ----------
    unet : trained in place
    data : pictures
    descent : steps and rates
    device : ``cpu`` or ``cuda``
    hooks, options : checkpoints, curve and interruption

    Returns
    -------
    whether the end was reached, and not a pause

    Raises
    ------
    BadInput
        A bucket has fewer pictures than a batch.
    Unavailable
        Targets are missing.
    Conflict
        The checkpoint is of another training.
    Diverged
        A loss is infinite or no number.
    """
    short = [len(bucket) for bucket in data.buckets if len(bucket) < descent.batch]
    if short or not data.buckets:
        raise BadInput(
            f"buckets of {[len(bucket) for bucket in data.buckets]} pictures",
            f"at least {descent.batch} in each, a batch",
            "Leave small buckets out, or take smaller batches.",
        )
    data.targets.check(["tokens", "picture_latent"], data.keys)
    with seeded(descent.seed, device):
        task = _Task(data, descent, torch.device(device))
        made_by = {"pictures": hash_keys(data.keys), "buckets": [len(bucket) for bucket in data.buckets]}
        return run(PlainTrainee(unet.to(device), task, descent, made_by), options, hooks)


class _Task:
    """The loss of a part of a batch."""

    def __init__(self, data: UnclipData, descent: UnclipDescent, device: torch.device) -> None:
        self._data, self._descent, self._device = data, descent, device
        self._sigmas = all_sigmas().to(device)
        self._shares = np.array([len(bucket) for bucket in data.buckets]) / sum(map(len, data.buckets))

    def __call__(self, unet: nn.Module, number: int, part: int) -> Tensor:
        sample = self._draw(number, part)
        sigma = self._sigmas[sample.timesteps][:, None, None, None]
        noisy = scale_to_input(sample.latent + sigma * sample.noise, sigma)
        (eps,) = unet(
            noisy,
            sample.timesteps,
            encoder_hidden_states=sample.tokens,
            class_labels=sample.vector,
            return_dict=False,
        )
        return F.mse_loss(eps.float(), sample.noise)

    def _draw(self, number: int, part: int) -> _Part:
        """Draw a batch over all processes, and keep a part of this process's."""
        descent = self._descent
        chance = stage_generator(descent.seed, f"unclip:{number}")
        bucket = self._data.buckets[int(chance.choice(len(self._shares), p=self._shares))]
        rows = chance.choice(bucket, size=descent.batch, replace=False)
        times = chance.integers(SDXL_STEPS, size=descent.batch)
        offsets = chance.standard_normal(descent.batch)
        dropped = chance.random(descent.batch) < descent.uncond
        seeds = chance.integers(2**63, size=(2, descent.batch))
        size = descent.samples()
        start = (processes.rank() * descent.micro_batches + part) * size
        kept = slice(start, start + size)
        keys = [self._data.keys[row] for row in rows[kept]]
        latent = self._data.targets.read("picture_latent", keys, number).to(self._device).float()
        tokens = self._data.targets.read("tokens", keys, number).to(self._device).float()
        empty = draw_normal(seeds[1, kept].tolist(), tokens.shape[1:], self._device)
        tokens = torch.where(self._move(dropped[kept])[:, None, None], empty, tokens)
        offset = descent.offset * self._move(offsets[kept]).float()[:, None, None, None]
        noise = draw_normal(seeds[0, kept].tolist(), latent.shape[1:], self._device) + offset
        vector = torch.cat([size_vector(*sizes) for sizes in self._data.sizes[rows[kept]].tolist()])
        return _Part(latent, tokens, vector.to(self._device), noise, self._move(times[kept]))

    def _move(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device)


def one_bucket(pictures: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return the buckets of pictures that are all of one size."""
    return (tuple(range(len(pictures))),)
