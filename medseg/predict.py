"""From what a network reads to probabilities: folds, mirrored windows and temperature."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.stream import Block, Predict, Tick, Windows, stream
from voxelight.models.errors import BadInput
from voxelight.models.registry import IMPORTED, SEGMENTERS, find_config
from voxelight.models.segmentation.fuse import fuse
from voxelight.models.segmentation.slices import AT_ONCE, add_neighbours

State = dict[str, Tensor]
_EXAMPLE_SIDE = 32


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A recipe with its networks, ready on a device.

    Parameters
    ----------
    recipe : what to compute
    networks : one, or the folds whose probabilities are averaged
    device : ``cpu``, ``cuda`` or ``cuda:N``
    half : compute in half precision; for a device that is faster in it
    """

    recipe: SegmentationRecipe
    networks: tuple[nn.Module, ...]
    device: str
    half: bool = False


def build_segmenter(
    recipe: SegmentationRecipe, weights: State | Sequence[State], device: str, half: bool = False
) -> Segmenter:
    """Build the network of a recipe around weights in hand.

    On a processor, normalisations become part of the convolutions before them: the same function, faster.

    Parameters
    ----------
    recipe : its network and config are built
    weights : parameter name -> tensor, or one such a fold; half precision is widened
    device : ``cpu``, ``cuda`` or ``cuda:N``
    half : compute in half precision

    Raises
    ------
    BadInput
        There are no weights, or half precision is asked of a processor.
    """
    states = [weights] if isinstance(weights, dict) else list(weights)
    if not states:
        raise BadInput("no weights", "those of one fold at least", "Name the weights of the recipe.")
    if half and torch.device(device).type == "cpu":
        raise BadInput("half precision on the processor", "half precision on a GPU", "Leave out half precision.")
    return Segmenter(recipe, tuple(_build(recipe, state, device) for state in states), device, half)


def predict(crop: NDArray[np.float32], segmenter: Segmenter, tick: Tick | None = None) -> NDArray[np.float32]:
    """Return the probability of each label, all of it at once: for a crop.

    Parameters
    ----------
    crop : array (c, i, j, k), normalised, on the recipe's spacing
    segmenter : of `build_segmenter`
    tick : called with the share of windows done

    Returns
    -------
    array (label, i, j, k), background first; or (region, i, j, k) where the recipe has regions that overlap
    """
    found = np.empty((segmenter.recipe.channels, *crop.shape[1:]), dtype=np.float32)
    for box, probabilities in stream_probabilities(crop, segmenter, tick):
        found[(slice(None), *box)] = probabilities.float().cpu().numpy()
    return found


def stream_probabilities(crop: NDArray[np.float32], segmenter: Segmenter, tick: Tick | None = None) -> Iterator[Block]:
    """Yield the probability of each label block by block, as `stream` does.

    A crop that fits into a window goes through the network as it is. Where the recipe mirrors, every window is averaged
    over its mirror images; then over folds; overlaps are blended; at last the temperature is applied to what came out
    (Rahaman and Thiery 2021: pool, then calibrate). A network of slices in context sees each slice with its neighbours,
    also where windows meet.

    Parameters
    ----------
    crop : array (c, i, j, k), normalised, on the recipe's spacing
    segmenter : of `build_segmenter`
    tick : called with the share of windows done

    Yields
    ------
    box of voxels, tensor (label, i', j', k') on the device; regions in place of labels where the recipe has them
    """
    recipe = segmenter.recipe
    image = torch.from_numpy(np.ascontiguousarray(crop)).to(segmenter.device)
    image, windows = cut_windows(image, recipe)
    blocks = stream(image, _averaged(segmenter), windows, tick)
    while True:
        with reproducible(segmenter.device):  # left before the caller goes on
            block = next(blocks, None)
            if block is None:
                return
            block = block[0], soften(block[1], recipe.temperature, bool(recipe.label_regions))
        yield block


def cut_windows(image: Tensor, recipe: SegmentationRecipe) -> tuple[Tensor, Windows]:
    """Return what is cut into windows, and how; slices in context one by one, their neighbours as channels."""
    if recipe.context > 1:
        size = min(recipe.patch[0], image.shape[1]), min(recipe.patch[1], image.shape[2]), 1
        return add_neighbours(image[None], recipe.context)[0], Windows(size, recipe.overlap, AT_ONCE)
    fits = all(side <= window for side, window in zip(image.shape[1:], recipe.patch, strict=True))
    return image, Windows(tuple(image.shape[1:]) if fits else recipe.patch, recipe.overlap)  # type: ignore[arg-type]


def soften(probabilities: Tensor, temperature: float, overlapping: bool = False) -> Tensor:
    """Return p^(1/T), normalised over labels: softmax(z / T) where p is softmax(z) (Guo et al. 2017, equation 9).

    Parameters
    ----------
    probabilities : tensor (label, ...)
    temperature : above 1 for less certainty
    overlapping : each channel is a region by itself, normalised against what lies outside: sigmoid(z / T)
    """
    if temperature == 1:
        return probabilities
    least = torch.finfo(probabilities.dtype).tiny
    powers = probabilities.clamp(min=least).pow(1 / temperature)
    if overlapping:
        return powers / (powers + (1 - probabilities).clamp(min=least).pow(1 / temperature))
    return powers / powers.sum(dim=0, keepdim=True)


def find_mirrors(recipe: SegmentationRecipe) -> list[tuple[int, ...]]:
    """Return the axes of each mirror image that is averaged, none first."""
    axes = sorted(set(recipe.mirror_axes)) if recipe.mirror_average else []
    return list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))


def _averaged(segmenter: Segmenter) -> Predict:
    mirrors = [[axis + 2 for axis in axes] for axes in find_mirrors(segmenter.recipe)]
    kind = torch.device(segmenter.device).type
    overlapping, in_context = bool(segmenter.recipe.label_regions), segmenter.recipe.context > 1

    def average(x: Tensor) -> Tensor:
        total: Tensor | None = None
        for network in segmenter.networks:
            for axes in mirrors:
                with torch.autocast(kind, dtype=torch.float16, enabled=segmenter.half):
                    seen = x.flip(axes) if axes else x
                    logits = network(seen[..., 0])[..., None] if in_context else network(seen)
                values = logits.sigmoid() if overlapping else logits.softmax(dim=1)
                values = values.flip(axes) if axes else values
                total = values if total is None else total.add_(values)
        assert total is not None
        count = len(segmenter.networks) * len(mirrors)
        return total if count == 1 else total.div_(count)

    return average


def _build(recipe: SegmentationRecipe, state: State, device: str) -> nn.Module:
    config = find_config(SEGMENTERS | IMPORTED, recipe.network)(**recipe.config)
    network: nn.Module = config.build()
    network.load_state_dict({name: value.float() if value.is_floating_point() else value
                             for name, value in state.items()})  # fmt: skip
    network = network.to(device).eval()
    if torch.device(device).type != "cpu" or recipe.network in IMPORTED:  # those read windows of one size alone
        return network
    sides = (_EXAMPLE_SIDE,) * getattr(config, "spatial_dims", 3)
    return fuse(network, torch.zeros(1, recipe.config.get("in_channels", 1) * recipe.context, *sides))


@contextmanager
def reproducible(device: str) -> Iterator[None]:
    """Compute in single precision by deterministic kernels, whatever the caller has set; its settings come back."""
    kind = torch.device(device).type
    with (
        torch.inference_mode(),
        torch.autocast(kind, enabled=False),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield
