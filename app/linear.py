"""Linear decoders in the words of the shell: targets, fit, predictions, captions, pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.linear import LinearRecipe, find_linear_recipe
from voxelight.neuro.linear.recipe import PIXELS, WORDS
from voxelight.storage.formats.captions import read_decoded_captions
from voxelight.storage.formats.picture_sets import open_pictures
from voxelight.storage.linear import (
    LinearFacts,
    SpaceFacts,
    open_linear,
    open_targets,
    read_stimulus_list,
    write_linear,
    write_targets,
)
from voxelight.storage.voxels import open_voxels

OnRows = Callable[[int, int], None]

_SIDE, _AT_ONCE = 256, 32


def make_targets(recipe_name: str, space: str, source: Path, folder: Path, weights: Path, device: str) -> int:
    """Make the targets of a space for training pictures, or for their captions, and return of how many.

    Parameters
    ----------
    recipe_name : of the linear decoder
    space : of its targets
    source : folder or array of pictures; for `clip-text` JSON of picture and caption
    folder : to write
    weights : folder of the converted weights
    device : e.g. ``cpu`` or ``cuda:0``

    Raises
    ------
    BadInput
        The recipe has no such space, or the source is no such source.
    Unavailable
        Nothing here makes these targets, or weights were not fetched.
    """
    import torch

    from voxelight.app.pipelines.linear_networks import load_encoder
    from voxelight.app.provenance import find_device

    recipe = find_linear_recipe(recipe_name)
    target = _find_target(recipe, space)
    if space == WORDS:
        told = read_decoded_captions(source)
        ids, items = list(told), np.array(list(told.values()), dtype=object)

        def read(rows: NDArray[np.intp]) -> Any:
            return items[rows].tolist()
    else:
        side = target.shape[0] if space == PIXELS else _SIDE
        pictures = open_pictures(source, side)
        ids = pictures.ids.tolist()

        def read(rows: NDArray[np.intp]) -> Any:
            images = pictures.read(rows).images
            colours = np.broadcast_to(images, (*images.shape[:3], 3)).transpose(0, 3, 1, 2)
            return torch.from_numpy(np.ascontiguousarray(colours))

    encode, _ = load_encoder(recipe, space, weights, find_device(device))

    def follow() -> Iterator[NDArray[Any]]:
        for start in range(0, len(ids), _AT_ONCE):
            yield encode(read(np.arange(start, min(start + _AT_ONCE, len(ids))))).cpu().numpy()

    write_targets(folder, ids, target.shape, follow(), target.made_by)
    return len(ids)


@dataclass(frozen=True)
class FitWishes:
    """What a linear decoder is fitted to.

    Parameters
    ----------
    recipe : name of the linear decoder
    betas : ``.npy`` or ``.safetensors`` (trial, voxel), floats of training trials alone
    stimuli : of each trial, the id of its picture in the targets
    targets : space -> folder of `make_targets`
    precision : of `StreamOptions`
    simulated : whether the betas are
    """

    recipe: str
    betas: Path
    stimuli: Path
    targets: Mapping[str, Path]
    precision: str = "float32"
    simulated: bool = False


def fit(wishes: FitWishes, folder: Path, device: str, on_rows: OnRows | None = None) -> LinearFacts:
    """Fit a linear decoder to training betas.

    Parameters
    ----------
    wishes : FitWishes
    folder : to write
    device : e.g. ``cpu`` or ``cuda:0``
    on_rows : called with (blocks done, blocks in all) of a pass
    """
    values = open_voxels(wishes.betas)
    shown = read_stimulus_list(wishes.stimuli, len(values))
    opened = {space: open_targets(path) for space, path in wishes.targets.items()}
    told = (find_linear_recipe(wishes.recipe), wishes.precision, wishes.simulated)
    return fit_into(folder, np.asarray(values, np.float32), shown, opened, told, device, on_rows)


def fit_into(
    folder: Path,
    betas: NDArray[np.float32],
    shown: Sequence[str],
    targets: Mapping[str, tuple[NDArray[Any], list[str]]],
    told: tuple[LinearRecipe, str, bool],
    device: str,
    on_rows: OnRows | None = None,
) -> LinearFacts:
    """Fit a linear decoder into a folder, whole or not at all.

    Parameters
    ----------
    folder : to write
    betas : array (trial, voxel), of training trials
    shown : of each trial, the key of its picture in the targets
    targets : space -> targets (picture, ...) and their keys
    told : recipe, precision of `StreamOptions`, and whether the betas are simulated
    device, on_rows : as for `fit`
    """
    from voxelight.models.decoders.ridge_stream import StreamOptions
    from voxelight.neuro.linear.fit import fit_linear

    recipe, precision, simulated = told
    options = StreamOptions.model_validate({"precision": precision})

    def into(room: Any) -> Any:
        decoder = fit_linear(betas, shown, targets, recipe, room, device, options, on_rows)
        spaces = {
            space: SpaceFacts(shape=ridge.target_shape, alphas=tuple(np.unique(ridge.alphas).tolist()))
            for space, ridge in decoder.decoders.items()
        }
        facts = LinearFacts(
            recipe=recipe.name,
            spaces=spaces,
            voxels=betas.shape[1],
            trials=len(betas),
            stimuli=len(set(shown)),
            rescaled=recipe.rescale,
            simulated=simulated,
        )
        return decoder, facts

    return write_linear(folder, into)


def predict(
    folder: Path, betas: Path, space: str, stimuli: Path | None = None
) -> tuple[NDArray[np.float32], list[str]]:
    """Predict a space: of each trial, or of each stimulus from the mean of its betas.

    Returns
    -------
    array (trial or stimulus, ...), and the name of each: its stimulus, or the number of the trial
    """
    decoder, _ = open_linear(folder)
    values = open_voxels(betas)
    names = [f"{row:06d}" for row in range(len(values))]
    if stimuli is not None:
        shown = np.array(read_stimulus_list(stimuli, len(values)))
        names = list(dict.fromkeys(shown.tolist()))
        values = np.stack([values[shown == name].mean(axis=0) for name in names])
    return decoder.predict(np.asarray(values, np.float64), space).astype(np.float32), names


def caption(folder: Path, betas: Path, weights: Path, device: str, stimuli: Path | None = None) -> dict[str, str]:
    """Caption what was seen in each trial, or at each stimulus; see `predict`.

    Raises
    ------
    BadInput
        The decoder has no tokens of GIT.
    Unavailable
        GIT was not fetched.
    """
    from voxelight.app.pipelines.linear_networks import caption_tokens, load_captioner
    from voxelight.app.provenance import find_device

    recipe, where = find_linear_recipe(open_linear(folder)[1].recipe), find_device(device)
    if not recipe.captions:
        raise BadInput(f"{recipe.name}, which captions nothing", "Brain Captioning", "Fit that one.")
    tokens, names = predict(folder, betas, "git", stimuli)
    told = caption_tokens(load_captioner(recipe, weights, where), tokens, recipe.caption_length, where)
    return dict(zip(names, told, strict=True))


def _find_target(recipe: LinearRecipe, space: str) -> Any:
    if space not in recipe.targets:
        raise BadInput(f"the space {space!r}", f"one of {', '.join(recipe.targets)}", f"Name one of {recipe.name}.")
    return recipe.targets[space]
