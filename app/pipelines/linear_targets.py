"""Targets of linear decoders out of the cache of frozen targets, made once a picture and network."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from voxelight.app.pipelines.decoder_data import SHOWN_SIDE
from voxelight.app.pipelines.linear_networks import load_encoder
from voxelight.app.pipelines.loaded import Gallery
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.models.values import ClipTokens, Stimuli
from voxelight.neuro.linear.recipe import WORDS, LinearRecipe, Target
from voxelight.neuro.simulation.pictures import StimuliSet
from voxelight.neuro.training.recorded import Album, SeenTrials
from voxelight.neuro.training.targets import OnStep, compute_targets
from voxelight.storage.linear import open_targets, write_targets
from voxelight.storage.stores import Stores
from voxelight.storage.targets import TargetStore, TargetTable

_AT_ONCE = 64


def fill_targets(
    recipe: LinearRecipe, space: str, keys: Sequence[str], album: Album, words: Mapping[str, str], stores: Stores,
    device: str, on_step: OnStep | None = None,
) -> TargetTable:  # fmt: skip
    """Compute what is not kept yet of the targets of pictures, and return their table.

    Parameters
    ----------
    recipe, space : whose targets
    keys : of the pictures
    album : holds them
    words : key -> caption, for the space of words
    stores : whose cache and weights
    device : of the network
    on_step : as for `compute_targets`

    Raises
    ------
    Unavailable
        Nothing here makes these targets.
    BadInput
        A picture has no caption.
    """
    encode, made_from = load_encoder(recipe, space, stores.weights, device)
    named = f"{made_from} at {SHOWN_SIDE} px, float32"
    if space == WORDS:
        lost = [key for key in keys if key not in words]
        if lost:
            raise BadInput(f"{len(lost)} pictures without a caption", "a caption of every stimulus", "Give them all.")
        told = json.dumps(sorted((key, words[key]) for key in keys)).encode()
        named = f"{made_from} of captions {hashlib.sha256(told).hexdigest()}"
    table = TargetStore(stores.cache / "targets").table(f"linear-{space}", named)

    def make(pictures: Tensor, some: Sequence[str]) -> Tensor:
        return encode([words[key] for key in some]) if space == WORDS else encode(pictures)

    compute_targets(keys, album, {f"linear-{space}": (make, table)}, device, on_step=on_step)
    return table


def tell_words(seen: SeenTrials, captions: Mapping[str, str]) -> dict[str, str]:
    """Return the caption of every picture by its key, of those that have one."""
    pairs = zip(seen.keys, seen.betas.stimulus_ids.tolist(), strict=True)
    return {key: captions[name] for key, name in pairs if name in captions}


def order_targets(
    folder: Path, table: TargetTable, keys: Sequence[str], target: Target
) -> tuple[NDArray[Any], list[str]]:
    """Return targets of pictures in one mapped array, as a fit takes them, and their keys."""
    if not folder.is_dir():

        def follow() -> Iterator[NDArray[Any]]:
            for start in range(0, len(keys), _AT_ONCE):
                yield table.read(keys[start : start + _AT_ONCE])

        folder.parent.mkdir(parents=True, exist_ok=True)
        write_targets(folder, keys, target.shape, follow(), target.made_by)
    return open_targets(folder)


def as_tokens(values: NDArray[Any], space: str) -> ClipTokens:
    """Return values (item, ...) of a space as tokens (item, token, dim); small pictures have a token a pixel."""
    return ClipTokens(values.reshape(len(values), -1, values.shape[-1]), space)


def find_linear_gallery(
    recipe: LinearRecipe, space: str, stimuli: Stimuli | None, stores: Stores, device: str
) -> Gallery:
    """Return the pictures of a data set in a space, where there are any and their targets can be made."""
    if stimuli is None:
        return Gallery(missing="The data set holds no pictures, so none was retrieved.")
    try:
        found = read_true(recipe, [space], stimuli, stores, device)
    except VoxelightError as error:
        return Gallery(missing=f"No picture was retrieved, for want of its targets. {error}")
    return Gallery(as_tokens(found[space], space))


def read_true(
    recipe: LinearRecipe, spaces: Sequence[str], stimuli: Stimuli, stores: Stores, device: str
) -> dict[str, NDArray[Any]]:
    """Return the targets of pictures themselves: space -> array (stimulus, ...)."""
    album, ids = Album(SHOWN_SIDE), stimuli.ids.tolist()
    keys = album.add(StimuliSet(stimuli), ids)
    ordered = [keys[name] for name in ids]
    return {space: fill_targets(recipe, space, ordered, album, {}, stores, device).read(ordered) for space in spaces}
