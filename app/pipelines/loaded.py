"""Networks of a worker, loaded once and used by every job that asks for the same ones."""

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from voxelight.models.errors import VoxelightError
from voxelight.models.values import ClipTokens, Stimuli
from voxelight.models.weights import find_part_sha256
from voxelight.neuro import stages
from voxelight.neuro.networks import Networks, load_networks
from voxelight.neuro.profiles import GenerationOptions, Profile

_MOST_PICTURES = 3000  # their tokens stay in memory, 0.85 MB each at full size
_SHOWN_SIDE = 256  # that the published decoders were scored with, pixels
_loaded: dict[str, Networks] = {}
_loading = threading.Lock()


@dataclass(frozen=True, eq=False)
class Gallery:
    """Pictures of a data set as the decoder's space has them; without tokens, `missing` says why."""

    tokens: ClipTokens | None = None
    missing: str = ""


def find_networks(profile: Profile, weights: Path, options: GenerationOptions, device: str) -> Networks:
    """Return the networks for these options, those of the last call where they are the same.

    Only one set is kept: the last one goes before another comes, since both may not fit.

    Raises
    ------
    Unavailable
        Weights were not fetched, or the memory is too small.
    BadInput
        Weights do not fit their network.
    """
    key = _name(profile, weights, options, device)
    with _loading:
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = load_networks(profile, weights, options, device)
        return _loaded[key]


def find_gallery(
    profile: Profile, weights: Path, options: GenerationOptions, device: str, stimuli: Stimuli | None
) -> Gallery:
    """Encode the pictures of a data set, where there are any and the encoder can be had."""
    if stimuli is None:
        return Gallery(missing="The data set holds no pictures, so none was retrieved.")
    if len(stimuli.ids) > _MOST_PICTURES:
        return Gallery(missing=f"None was retrieved: the data set holds more than {_MOST_PICTURES} pictures.")
    small = options.model_copy(update={"stop": "tokens", "batch": None})
    try:
        encoder = load_networks(profile, weights, small, device, parts=["image_encoder"])
    except VoxelightError as error:
        return Gallery(missing=f"No picture was retrieved, for want of the image encoder. {error}")
    parts = []
    with encoder.on_device("image_encoder"):
        for start in range(0, len(stimuli.ids), encoder.plan.batch):
            images = torch.from_numpy(stimuli.images[start : start + encoder.plan.batch]).permute(0, 3, 1, 2)
            shown = stages.resize(images.expand(-1, 3, -1, -1), _SHOWN_SIDE)
            parts.append(stages.encode_images(encoder, shown).numpy().astype(np.float16))
    return Gallery(ClipTokens(np.concatenate(parts), profile.space))


def _name(profile: Profile, weights: Path, options: GenerationOptions, device: str) -> str:
    """Name networks by all that they are made from; weights that were converted anew have another name."""
    placed = options.model_dump_json(include={"stop", "dtype", "batch", "memory"})
    parts = [profile.model_dump_json(), placed, device]
    if not profile.random_weights:
        parts += [find_part_sha256(weights, profile.weights[part], part) for part in options.parts]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
