"""The hierarchical VAE that brain-diffuser and Brain Captioning map to (Child 2021): its latents, not its network.

Betas can be mapped to the latents of the first 31 of its layers, and the latents be cut and joined. The decoder that
would turn them into pictures is not here.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, Unavailable

CHANNELS = 16
SIDES = (1,) * 2 + (4,) * 4 + (8,) * 8 + (16,) * 16 + (32,)
SHAPES = tuple((CHANNELS, side, side) for side in SIDES)
SIZES = tuple(CHANNELS * side**2 for side in SIDES)
TOTAL = sum(SIZES)

Floats = NDArray[np.floating[Any]]


def split_layers(flat: Floats) -> list[Floats]:
    """Cut latents (item, 91168) into those of each layer (item, 16, side, side), coarsest first.

    Raises
    ------
    BadInput
        There is another number of them.
    """
    if flat.ndim != 2 or flat.shape[1] != TOTAL:
        raise BadInput(f"latents of shape {flat.shape}", f"(item, {TOTAL})", "Take those of the first 31 layers.")
    parts = np.split(flat, np.cumsum(SIZES)[:-1], axis=1)
    return [part.reshape(len(flat), *shape) for part, shape in zip(parts, SHAPES, strict=True)]


def join_layers(layers: Sequence[Floats]) -> Floats:
    """Join latents of each layer (item, 16, side, side) to (item, 91168).

    Raises
    ------
    BadInput
        The layers are not the 31, coarsest first.
    """
    found = [layer.shape[1:] for layer in layers]
    if found != list(SHAPES):
        raise BadInput(
            f"{len(found)} layers of shapes {found[:3]} and on", f"the {len(SHAPES)} of {SHAPES[:3]} and on",
            "Give every layer once, coarsest first.",
        )  # fmt: skip
    return np.concatenate([layer.reshape(len(layer), -1) for layer in layers], axis=1)


def decode(_layers: Sequence[Floats]) -> NoReturn:
    """Refuse to make pictures of latents.

    Raises
    ------
    Unavailable
        Always: the network is not part of Voxelight.
    """
    raise Unavailable(
        "latents of the hierarchical VAE and no network to decode them",
        "OpenAI's VDVAE for 64 x 64 pictures, which is not part of Voxelight",
        "Decode the latents with its own code and give the pictures as first guesses, or fit the target pixels-64.",
    )
