"""Train what goes on from tokens: the UNet that draws pictures, and the converter for the caption model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelight.app.provenance import find_revision
from voxelight.models.errors import BadInput
from voxelight.models.training import processes
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.models.weights import load_part
from voxelight.neuro import stages
from voxelight.neuro.networks import Networks, load_networks
from voxelight.neuro.profiles import GenerationOptions, Profile
from voxelight.neuro.training.converter import ConverterDescent, fit_converter
from voxelight.neuro.training.recorded import Album
from voxelight.neuro.training.targets import CachedTargets, Encode, Table, compute_targets, hash_keys
from voxelight.neuro.training.unclip import UnclipData, UnclipDescent, fit_unclip, one_bucket, start_unclip
from voxelight.storage.targets import TargetStore

OnStep = Callable[[int, int], None]

_SHOWN_SIDE = 256  # that pictures are brought to before they are encoded, as where they are retrieved


@dataclass(frozen=True, eq=False)
class PictureWork:
    """What both trainings take.

    Parameters
    ----------
    profile : whose networks
    album : pictures, at the side at which they are drawn
    keys : of the pictures
    weights : folder of all weights
    targets : where frozen targets are kept
    device : to train on
    """

    profile: Profile
    album: Album
    keys: tuple[str, ...]
    weights: Path
    targets: TargetStore
    device: str

    def compute(self, parts: Sequence[str], on_step: OnStep) -> dict[str, Table]:
        """Compute tokens, and latents of the pictures, as far as they are not kept yet."""
        options = GenerationOptions(stop="tokens", dtype="float32")
        networks = load_networks(self.profile, self.weights, options, self.device, parts=tuple(parts))
        makers = {"image_encoder": ("tokens", _encode_tokens), "autoencoder": ("picture_latent", _encode_pictures)}
        tables: dict[str, Table] = {}
        encoders: dict[str, tuple[Encode, Table]] = {}
        for part in parts:
            kind, make = makers[part]
            tables[kind] = self.targets.table(kind, f"{networks.part_sha256[part]} of {self.profile.side} px, float32")
            encoders[kind] = (make(networks), tables[kind])
        with networks.on_device(*parts), processes.first_before_others():
            compute_targets(self.keys, self.album, encoders, self.device, on_step=on_step)
        return tables

    def describe(self, descent: Any, part: str) -> dict[str, Any]:
        """Return how a network was made, to be written beside its weights."""
        return {
            "part": part,
            "profile": self.profile.name,
            "config": self.profile.parts[part].config,
            "descent": descent.model_dump(mode="json"),
            "pictures": len(self.keys),
            "pictures_sha256": hash_keys(self.keys),
            "random_encoder": self.profile.draws("image_encoder"),
            "device": self.device,
            "revision": find_revision(),
        }


def train_unclip(
    work: PictureWork, descent: UnclipDescent, start: str | None, hooks: Hooks, options: LoopOptions, on_step: OnStep
) -> dict[str, Tensor]:
    """Train the UNet of a profile to draw pictures from their tokens.

    Parameters
    ----------
    work : pictures and networks
    descent : steps and rates
    start : published weights whose part ``refiner`` is SDXL's UNet; fresh ones without
    hooks, options : checkpoints and curve
    on_step : called before each batch of targets

    Returns
    -------
    its weights
    """
    tables = work.compute(("image_encoder", "autoencoder"), on_step)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(descent.seed)
        unet = work.profile.parts["unclip"].build_config().build()
    if start is not None:
        start_unclip(unet, load_part(work.weights, start, "refiner"))
    side = float(work.profile.side)
    sizes = np.tile(np.array([[side, side, 0, 0]], np.float32), (len(work.keys), 1))
    data = UnclipData(work.keys, sizes, one_bucket(work.keys), CachedTargets(tables))
    fit_unclip(unet, data, descent, work.device, hooks, options)
    return dict(unet.state_dict())


def train_converter(
    work: PictureWork, wanted: Mapping[str, NDArray[Any]], descent: ConverterDescent, hooks: Hooks, on_step: OnStep
) -> dict[str, Tensor]:
    """Train the token converter of a profile.

    Parameters
    ----------
    work : pictures and networks
    wanted : key of each picture -> tokens (token, dim) of the encoder that the caption model was trained with
    descent : steps and rates
    hooks : checkpoints and curve
    on_step : called before each batch of targets

    Returns
    -------
    its weights

    Raises
    ------
    BadInput
        The tokens are not those that the profile's caption model reads.
    """
    config = work.profile.parts["converter"].build_config()
    expected = (config.tokens_out, config.dim_out)
    strange = next((value.shape for value in wanted.values() if value.shape != expected), None)
    if strange is not None:
        raise BadInput(f"caption tokens of shape {strange}", f"{expected}, as the caption model of the profile reads",
                       "Take the last layer of its own image encoder.")  # fmt: skip
    tables = work.compute(("image_encoder",), on_step)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(descent.seed)
        converter = config.build()
    targets = CachedTargets(tables | {"caption_tokens": _InMemory(wanted)})
    fit_converter(converter, work.keys, targets, descent, work.device, hooks)
    return dict(converter.state_dict())


class _InMemory:
    """A table of arrays that are at hand."""

    def __init__(self, values: Mapping[str, NDArray[Any]]) -> None:
        self._values = values

    def missing(self, keys: Sequence[str]) -> list[str]:
        return [key for key in dict.fromkeys(keys) if key not in self._values]

    def read(self, keys: Sequence[str]) -> NDArray[Any]:
        return np.stack([self._values[key] for key in keys])

    def write(self, keys: Sequence[str], values: NDArray[Any]) -> None:
        raise NotImplementedError(f"{len(keys)} pictures for a table that is whole, and {len(values)} values")


def _encode_tokens(networks: Networks) -> Encode:
    def encode(pictures: Tensor, _: Sequence[str]) -> Tensor:
        return stages.encode_images(networks, stages.resize(pictures, _SHOWN_SIDE))

    return encode


def _encode_pictures(networks: Networks) -> Encode:
    autoencoder: Any = networks.parts["autoencoder"]

    def encode(pictures: Tensor, _: Sequence[str]) -> Tensor:
        latent: Tensor = autoencoder.encode(pictures)
        return latent

    return encode
