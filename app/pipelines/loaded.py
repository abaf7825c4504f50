"""Networks of a worker, loaded once and used by every job that asks for the same ones."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from voxelight.app.warm import WARM, count_bytes
from voxelight.models.errors import VoxelightError
from voxelight.models.values import ClipTokens, Stimuli
from voxelight.models.weights import find_part_sha256
from voxelight.neuro import stages
from voxelight.neuro.memory import BYTES, count_parameters
from voxelight.neuro.networks import Networks, load_networks
from voxelight.neuro.profiles import GenerationOptions, Profile
from voxelight.storage.cache import StageCache

_ENCODER = ("image_encoder",)
_MOST_PICTURES = 3000  # their tokens stay in memory, 0.85 MB each at full size


@dataclass(frozen=True, eq=False)
class Gallery:
    """Pictures of a data set as the decoder's space has them; without tokens, `missing` says why."""

    tokens: ClipTokens | None = None
    missing: str = ""


def find_networks(profile: Profile, weights: Path, options: GenerationOptions, device: str) -> Networks:
    """Return the networks for these options, those of an earlier call where they are the same and still loaded.

    Room is made before they are loaded. On a card for which no budget is set, only one set is kept: how it is placed
    goes by what is free there.

    Raises
    ------
    Unavailable
        Weights were not fetched, or the memory is too small.
    BadInput
        Weights do not fit their network.
    """
    key = _name(profile, weights, options, device, profile.list_parts(options))
    sizes = [count_parameters(profile.parts[part]) for part in profile.list_parts(options)]
    alone = device != "cpu" and WARM.budget_bytes is None
    return WARM.find(
        key,
        profile.name,
        device,
        lambda: load_networks(profile, weights, options, device),
        lambda networks: count_bytes(networks.parts.values()),
        need=sys.maxsize if alone else sum(sizes) * BYTES[options.dtype],
    )


def find_gallery(
    profile: Profile, weights: Path, options: GenerationOptions, device: str, stimuli: Stimuli | None, cache: StageCache
) -> Gallery:
    """Encode the pictures of a data set, where there are any and the encoder can be had; each picture once."""
    if stimuli is None:
        return Gallery(missing="The data set holds no pictures, so none was retrieved.")
    if len(stimuli.ids) > _MOST_PICTURES:
        return Gallery(missing=f"None was retrieved: the data set holds more than {_MOST_PICTURES} pictures.")
    small = options.model_copy(update={"stop": "tokens", "batch": None})
    try:
        encoder = _name(profile, weights, small, device, _ENCODER)
        keys = [hashlib.sha256(f"{encoder} {one.shape}".encode() + one.tobytes()).hexdigest() for one in stimuli.images]
        tokens = [None if entry is None else entry["tokens"] for entry in map(cache.find, keys)]
        missing = [number for number, known in enumerate(tokens) if known is None]
        if missing:
            networks = load_networks(profile, weights, small, device, parts=_ENCODER)
            for number, found in zip(missing, _encode(networks, stimuli.images[missing]), strict=True):
                tokens[number] = found
                cache.write(keys[number], {"tokens": found})
    except VoxelightError as error:
        return Gallery(missing=f"No picture was retrieved, for want of the image encoder. {error}")
    return Gallery(ClipTokens(np.stack([known for known in tokens if known is not None]), profile.space))


def _encode(networks: Networks, images: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return the tokens of pictures, array (picture, token, dim)."""
    # The published decoders were scored with pictures of the size that results are kept at.
    side, batch, parts = networks.profile.result_side, networks.plan.batch, []
    with networks.on_device(*_ENCODER):
        for start in range(0, len(images), batch):
            some = torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
            parts.append(stages.encode_images(networks, stages.resize(some, side)).numpy())
    return np.concatenate(parts).astype(np.float16)


def _name(profile: Profile, weights: Path, options: GenerationOptions, device: str, parts: Sequence[str]) -> str:
    """Name networks by all that they are made from; weights that were converted anew have another name."""
    placed = options.model_dump_json(include={"stop", "dtype", "batch", "memory"})
    made_from = [profile.model_dump_json(), placed, device]
    made_from += [find_part_sha256(weights, profile.weights[part], part) for part in parts if not profile.draws(part)]
    return hashlib.sha256("\n".join(made_from).encode()).hexdigest()
