"""Volume in, label map out, on the volume's own grid."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor, nn

from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.transforms import box_of, cut, grid_of_region, grid_of_spacing, normalise, resample
from voxelight.models.errors import BadInput
from voxelight.models.registry import SEGMENTERS, find_config
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.models.weights import load_weights

Progress = Callable[[float], None]
_THINNEST_MM = 8.0
_MARGIN_MM = 4.0


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A recipe with its network, ready on a device."""

    recipe: SegmentationRecipe
    network: nn.Module
    device: str


def load_segmenter(recipe: SegmentationRecipe, device: str) -> Segmenter:
    """Build the network of a recipe and read its weights.

    Parameters
    ----------
    recipe : of `medseg.recipes`
    device : ``cpu``, ``cuda`` or ``cuda:N``

    Raises
    ------
    Conflict
        The weights are not those that were released.
    """
    return build_segmenter(recipe, load_weights(recipe.weights), device)


def build_segmenter(recipe: SegmentationRecipe, weights: dict[str, Tensor], device: str) -> Segmenter:
    """Build the network of a recipe around weights in hand.

    Parameters
    ----------
    weights : parameter name -> tensor; half precision is widened, since processors compute in single
    """
    network: nn.Module = find_config(SEGMENTERS, recipe.network)(**recipe.config).build()
    network.load_state_dict({name: value.float() if value.is_floating_point() else value
                             for name, value in weights.items()})  # fmt: skip
    return Segmenter(recipe, network.to(device).eval(), device)


def segment(volume: Volume, segmenter: Segmenter, progress: Progress | None = None) -> LabelMap:
    """Label a volume by a recipe.

    Parameters
    ----------
    volume : Volume (c, i, j, k), RAS+
    segmenter : of `load_segmenter`
    progress : called with the share done after each region

    Returns
    -------
    LabelMap on the grid of the volume; the same bytes for the same volume

    Raises
    ------
    BadInput
        The volume is not what the recipe was made for.
    """
    recipe = segmenter.recipe
    grids = _find_grids(volume, recipe)
    found = np.zeros(volume.geometry.shape, dtype=np.uint8)
    for number, grid in enumerate(grids):
        place = box_of(grid, volume.geometry, _MARGIN_MM)
        here = cut(volume.geometry, place)
        crop = normalise(resample(volume.array[(slice(None), *place)], here, grid), recipe.normalisation)
        labels = _choose(resample(predict(crop, segmenter)[1:], grid, here))
        free = found[place] == 0
        found[place][free & (labels > 0)] = labels[free & (labels > 0)] + number * len(recipe.labels)
        if progress is not None:
            progress((number + 1) / len(grids))
    return LabelMap(found, volume.geometry, recipe.output_labels)


def predict(crop: NDArray[np.float32], segmenter: Segmenter) -> NDArray[np.float32]:
    """Return the probability of each label.

    Parameters
    ----------
    crop : array (c, i, j, k), normalised, on the recipe's spacing

    Returns
    -------
    array (label, i, j, k), background first
    """
    x = torch.from_numpy(np.ascontiguousarray(crop)).to(segmenter.device)[None]
    with _reproducible(segmenter.device):
        probabilities = _forward(x, segmenter).softmax(dim=1)
        if segmenter.recipe.mirror_average:
            probabilities = (probabilities + _forward(x.flip(2), segmenter).softmax(dim=1).flip(2)) / 2
    array: NDArray[np.float32] = probabilities[0].cpu().numpy()
    return array


def _forward(x: Tensor, segmenter: Segmenter) -> Tensor:
    recipe = segmenter.recipe
    if all(side <= window for side, window in zip(x.shape[2:], recipe.patch, strict=True)):
        logits: Tensor = segmenter.network(x)
    else:
        logits = sliding_window_inference(x, recipe.patch, 1, segmenter.network, recipe.overlap, mode="gaussian")  # type: ignore[assignment]
    return logits


@contextmanager
def _reproducible(device: str) -> Iterator[None]:
    """Compute in single precision by deterministic kernels, whatever the caller has set; its settings come back."""
    kind = torch.device(device).type
    with (
        torch.inference_mode(),
        torch.autocast(kind, enabled=False),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield


def _choose(foreground: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the likeliest label of each voxel; background has what the others leave, all of it outside the crop."""
    background = 1 - foreground.sum(axis=0, keepdims=True)
    chosen: NDArray[np.uint8] = np.concatenate([background, foreground]).argmax(axis=0).astype(np.uint8)
    return chosen


def _find_grids(volume: Volume, recipe: SegmentationRecipe) -> list[Geometry]:
    channels = recipe.config.get("in_channels", 1)
    if volume.array.shape[0] != channels:
        raise BadInput(
            f"an image of {volume.array.shape[0]} channels", f"{channels}", "Give the contrast that the recipe names."
        )
    if recipe.regions:
        grids = [grid_of_region(region, recipe.spacing_mm) for region in recipe.regions]
        for grid in grids:
            _refuse_unless_held(grid, volume.geometry)
        return grids
    _refuse_size(volume.geometry, recipe)
    return [grid_of_spacing(volume.geometry, recipe.spacing_mm)]


def _refuse_size(geometry: Geometry, recipe: SegmentationRecipe) -> None:
    sides = np.array(geometry.shape) * np.array(geometry.spacing)
    largest = np.array(recipe.largest_mm or (np.inf,) * 3)
    if (sides < _THINNEST_MM).any() or (sides > largest).any():
        raise BadInput(
            f"a field of {' x '.join(f'{side:.0f}' for side in sides)} mm",
            f"{_THINNEST_MM:.0f} to {' x '.join(f'{side:.0f}' for side in largest)} mm",
            "Cut out the region around one hippocampus, or use hippocampus-mni for a whole head in MNI space.",
        )


def _refuse_unless_held(grid: Geometry, geometry: Geometry) -> None:
    """Refuse a volume whose field does not hold a region."""
    step = np.linalg.inv(geometry.affine) @ grid.affine
    corners = np.array(np.meshgrid(*((0, side - 1) for side in grid.shape))).reshape(3, -1)
    at = step[:3, :3] @ corners + step[:3, 3:]
    if (at < -0.5).any() or (at > np.array(geometry.shape)[:, None] - 0.5).any():
        raise BadInput(
            f"a field that spans {_span(geometry)} mm",
            f"one that holds {_span(grid)} mm of MNI space",
            "Register the head to MNI152 first, or cut out one hippocampus and use hippocampus-agunet.",
        )


def _span(geometry: Geometry) -> str:
    corners = np.array(np.meshgrid(*((0, side - 1) for side in geometry.shape))).reshape(3, -1)
    at = geometry.affine[:3, :3] @ corners + geometry.affine[:3, 3:]
    return ", ".join(
        f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in zip("xyz", at.min(1), at.max(1), strict=True)
    )
