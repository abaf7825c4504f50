"""Pictures of what a linear decoder predicts, by a generator whose checkpoint one names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.app.linear import predict
from voxelight.app.provenance import find_device
from voxelight.models.errors import BadInput, NotFound
from voxelight.neuro.linear import find_linear_recipe
from voxelight.neuro.linear.recipe import PIXELS, WORDS, Generator
from voxelight.storage.formats.captions import read_decoded_captions
from voxelight.storage.formats.picture_sets import read_rows_by_id
from voxelight.storage.linear import open_linear


@dataclass(frozen=True)
class PictureWishes:
    """What a person may name beside decoder and betas.

    Parameters
    ----------
    generator : of the recipe; left out, its first
    checkpoint : in place of the published one, a folder or a name on the hub
    controls : the same for its ControlNets
    captions : JSON of stimulus and caption
    guesses, depths : ``.npz`` of `images` (stimulus, row, column, 3) in [0, 1] and `ids`; left out, a first guess is
        the prediction of `pixels-64`
    stimuli : of each trial
    seed : of every picture
    """

    generator: str | None = None
    checkpoint: str | None = None
    controls: tuple[str, ...] = ()
    captions: Path | None = None
    guesses: Path | None = None
    depths: Path | None = None
    stimuli: Path | None = None
    seed: int = 0


def make_pictures(folder: Path, betas: Path, wishes: PictureWishes, device: str) -> dict[str, NDArray[np.float32]]:
    """Return a picture (row, column, 3) in [0, 1] of each trial, or of each stimulus.

    Parameters
    ----------
    folder : of a fitted linear decoder
    betas : ``.npy`` (trial, voxel)
    wishes : PictureWishes
    device : e.g. ``cpu`` or ``cuda:0``

    Raises
    ------
    BadInput
        What the generator needs was neither fitted nor named.
    Unavailable
        The checkpoint is not there.
    """
    recipe = find_linear_recipe(open_linear(folder)[1].recipe)
    name = wishes.generator or next(iter(recipe.generators), "")
    if name not in recipe.generators:
        raise NotFound(
            f"the generator {name!r} of {recipe.name}",
            f"one of {', '.join(recipe.generators) or '(none)'}",
            "Name one.",
        )
    changes: dict[str, Any] = {"checkpoint": wishes.checkpoint} if wishes.checkpoint else {}
    if wishes.controls:
        changes["controls"] = wishes.controls
    generator = Generator.model_validate({**recipe.generators[name].model_dump(), **changes})
    known = open_linear(folder)[0].decoders
    space = WORDS if generator.kind == "dual-guided" else next(iter(known))
    _, names = predict(folder, betas, space, wishes.stimuli)
    seeds, where = [wishes.seed] * len(names), find_device(device)
    made = _generate(generator, folder, betas, wishes, names, seeds, where)
    return dict(zip(names, made, strict=True))


def _generate(
    generator: Generator,
    folder: Path,
    betas: Path,
    wishes: PictureWishes,
    names: Sequence[str],
    seeds: Sequence[int],
    device: str,
) -> NDArray[np.float32]:
    from voxelight.app.pipelines.linear_networks import Given, draw_pictures, load_generator

    if generator.kind == "controlnet":
        given = Given(_captions(wishes, names), depths=_read(wishes.depths, names, "depth maps", "--depths"))
    else:
        guesses = _find_guesses(folder, betas, wishes, names)
        if generator.kind == "img2img":
            given = Given(_captions(wishes, names), guesses)
        else:
            words, seen = (predict(folder, betas, space, wishes.stimuli)[0] for space in (WORDS, "clip-vision"))
            given = Given(guesses=guesses, words=words, seen=seen)
    return draw_pictures(load_generator(generator, device), generator, given, seeds)


def _find_guesses(folder: Path, betas: Path, wishes: PictureWishes, names: Sequence[str]) -> NDArray[Any]:
    if wishes.guesses is not None or PIXELS not in open_linear(folder)[0].decoders:
        return _read(wishes.guesses, names, f"first guesses, and no space {PIXELS}", "--guesses")
    return predict(folder, betas, PIXELS, wishes.stimuli)[0].clip(0, 1)


def _read(path: Path | None, names: Sequence[str], what: str, option: str) -> NDArray[Any]:
    if path is None:
        raise BadInput(
            f"no {what}",
            "a .npz of images and ids",
            f"Name one with {option}: the network that would decode latents of the hierarchical VAE is not here.",
        )
    images, ids = read_rows_by_id(path, "images")
    place = {one: row for row, one in enumerate(ids.tolist())}
    missing = [name for name in names if name not in place]
    if missing or images.ndim != 4 or images.shape[3] != 3 or images.dtype.kind != "f":
        raise BadInput(
            f"{path.name} of shape {images.shape} without {', '.join(missing[:3]) or 'colours from 0 to 1'}",
            f"floats (stimulus, row, column, 3) for {len(names)} stimuli",
            "Write one picture a stimulus.",
        )
    return np.asarray(images[[place[name] for name in names]])


def _captions(wishes: PictureWishes, names: Sequence[str]) -> list[str]:
    if wishes.captions is None:
        raise BadInput("no captions", "JSON of stimulus and caption", "Make them with voxelight linear caption.")
    told = read_decoded_captions(wishes.captions)
    missing = [name for name in names if name not in told]
    if missing:
        raise BadInput(f"captions without {', '.join(missing[:3])}", "one for each stimulus", "Caption the same betas.")
    return [told[name] for name in names]
