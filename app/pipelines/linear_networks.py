"""The networks of a linear decoder: what makes its targets, what says captions, what draws pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxelight.models.captioning.vocabulary import small_vocabulary
from voxelight.models.errors import BadInput, Unavailable
from voxelight.models.generators import load_controlnet, load_dual, load_img2img
from voxelight.models.layouts import describe_network
from voxelight.models.published import find_published
from voxelight.models.registry import NETWORKS, find_config
from voxelight.models.weights import find_part_sha256, load_into, load_part, read_vocabulary
from voxelight.neuro.linear.pictures import control_by_depth, guide_dual, vary_guesses
from voxelight.neuro.linear.recipe import PIXELS, Generator, LinearRecipe, RandomNetwork
from voxelight.neuro.networks import fill_random, hash_tensors
from voxelight.neuro.stages import resize

Floats = NDArray[np.floating[Any]]
Encode = Callable[[Any], Tensor]
"""Pictures, tensor (b, 3, h, w) in [0, 1], or for words a list of them -> targets (b, ...)."""

_AT_ONCE = 32


def load_encoder(recipe: LinearRecipe, space: str, weights: Path, device: str) -> tuple[Encode, str]:
    """Return what makes the targets of a space, and the hash of its weights, or what it is where it has none.

    Parameters
    ----------
    recipe : LinearRecipe
    space : of its targets
    weights : folder of the converted weights
    device : e.g. ``cpu`` or ``cuda:0``

    Raises
    ------
    Unavailable
        Nothing here makes these targets, or weights were not fetched.
    """
    target = recipe.targets[space]
    if space == PIXELS:
        side = target.shape[0]
        return lambda pictures: resize(pictures, side).permute(0, 2, 3, 1), f"pixels at {side}, bilinear"
    if target.encoder is None and target.random is None:
        raise Unavailable(
            f"no network that makes {space}", target.made_by, "Make them with its own code and write them with numpy."
        )
    network, sha256 = _load(target.encoder, target.random, recipe.random_seed, space, weights)
    network = network.to(device)

    def encode(items: Any) -> Tensor:
        with torch.inference_mode():
            found: Tensor = network(items.to(device) if isinstance(items, Tensor) else items)
        return found

    return encode, sha256


def load_captioner(recipe: LinearRecipe, weights: Path, device: str) -> Any:
    """Return what captions the space `git`.

    Raises
    ------
    Unavailable
        GIT was not fetched.
    """
    captioner: Any
    captioner, _ = _load(recipe.captioner, recipe.random_captioner, recipe.random_seed, "captioner", weights)
    captioner.use_vocabulary(read_vocabulary(weights, recipe.captioner) if recipe.captioner else small_vocabulary())
    return captioner.to(device)


def caption_tokens(captioner: Any, tokens: Floats, length: int, device: str) -> list[str]:
    """Return the captions of tokens (item, token, dim)."""
    told: list[str] = []
    for some in torch.split(torch.from_numpy(np.asarray(tokens, np.float32)), _AT_ONCE):
        told += captioner.caption(some.to(device), max_length=length)
    return told


@dataclass(frozen=True, eq=False)
class Given:
    """What a generator is given for each picture; what it does not need may be missing.

    Parameters
    ----------
    captions : in words
    guesses, depths : array (picture, row, column, 3) in [0, 1]
    words, seen : array (picture, token, dim), predicted tokens of text and picture
    """

    captions: Sequence[str] = ()
    guesses: Floats | None = None
    depths: Floats | None = None
    words: Floats | None = None
    seen: Floats | None = None


def load_generator(generator: Generator, device: str) -> Any:
    """Return the networks of a generator on a device.

    Raises
    ------
    Unavailable
        A checkpoint is not there.
    """
    dtype = torch.float32 if device == "cpu" else torch.float16
    if generator.kind == "controlnet":
        return load_controlnet(generator.checkpoint, generator.controls, device, dtype)
    if generator.kind == "img2img":
        return load_img2img(generator.checkpoint, device, dtype)
    return load_dual(generator.checkpoint, generator.text_share, device, dtype)


def draw_pictures(
    networks: Any, generator: Generator, given: Given, seeds: Sequence[int]
) -> NDArray[np.float32]:  # fmt: skip
    """Return pictures (picture, side, side, 3) in [0, 1].

    Parameters
    ----------
    networks : of `load_generator`
    generator : Generator
    given : what this kind of generator needs
    seeds : one a picture
    """
    if generator.kind == "controlnet":
        return control_by_depth(networks, _require(given.depths), given.captions, seeds, generator)
    if generator.kind == "img2img":
        return vary_guesses(networks, _require(given.guesses), given.captions, seeds, generator)
    words, seen = (torch.from_numpy(np.asarray(_require(each), np.float32)) for each in (given.words, given.seen))
    return guide_dual(networks, words, seen, _require(given.guesses), seeds, generator)


def _require(values: Floats | None) -> Floats:
    if values is None:
        raise BadInput("a generator without what it begins from", "first guesses, depth maps or tokens", "Give them.")
    return values


def _load(
    published: str | None, random: RandomNetwork | None, seed: int | None, part: str, weights: Path
) -> tuple[nn.Module, str]:
    """Return a network with its weights in float32, and their hash."""
    network: Any
    if published is None and random is not None and seed is not None:
        network = find_config(NETWORKS, random.network)(**random.config).build()
        fill_random(network, seed, part)
        return network.eval(), hash_tensors(network)
    ((name, sizes),) = find_published(str(published)).parts.items()
    with torch.device("meta"):
        network = describe_network(sizes.network, sizes.config).config.build()
    load_into(network, load_part(weights, str(published), name))
    return network.float().eval(), find_part_sha256(weights, str(published), name)
