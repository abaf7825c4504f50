"""Volume in, label map out, on the volume's own grid."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from voxelight.medseg.postprocess import Cleaning, clean
from voxelight.medseg.predict import Segmenter, build_segmenter, predict, stream_probabilities
from voxelight.medseg.recipes.recipe import SegmentationRecipe, own_labels
from voxelight.medseg.reduce import LabelReducer, reduce_turned
from voxelight.medseg.stream import Box
from voxelight.medseg.transforms import box_of, choose_grid, cut, grid_of_region, normalise, resample
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.models.weights import load_weights

__all__ = [
    "Prepared",
    "Segmentation",
    "Segmenter",
    "build_segmenter",
    "label",
    "load_segmenter",
    "predict",
    "prepare",
    "segment",
]

Progress = Callable[[float], None]
Labels = NDArray[np.uint8] | NDArray[np.uint16]
_THINNEST_MM = 8.0
_MARGIN_MM = 4.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """A volume as its networks read it.

    Parameters
    ----------
    geometry : grid of the volume
    fields : grid and normalised image (c, i, j, k) of each region, or of the whole
    """

    geometry: Geometry
    fields: tuple[tuple[Geometry, NDArray[np.float32]], ...]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a recipe gave for a volume.

    Parameters
    ----------
    label_map : on the grid of the volume
    confidence : array (i, j, k), float16: probability of the label of each voxel, of regions that overlap that of the
        least certain one; None where it was not asked for
    cleaned : label name -> what was left out or filled
    """

    label_map: LabelMap
    confidence: NDArray[np.float16] | None = None
    cleaned: dict[str, Cleaning] = field(default_factory=dict)


def load_segmenter(recipe: SegmentationRecipe, device: str, half: bool = False) -> Segmenter:
    """Build the networks of a recipe and read their weights.

    Parameters
    ----------
    recipe : of `medseg.recipes`
    device : ``cpu``, ``cuda`` or ``cuda:N``
    half : compute in half precision

    Raises
    ------
    Conflict
        The weights are not those that were released.
    """
    states = [load_weights(name) for name in (recipe.weights, *recipe.ensemble)]
    return build_segmenter(recipe, states, device, half)


def segment(volume: Volume, segmenter: Segmenter, progress: Progress | None = None) -> LabelMap:
    """Label a volume by a recipe: `prepare`, then `label`.

    Parameters
    ----------
    volume : Volume (c, i, j, k), RAS+
    segmenter : of `load_segmenter`
    progress : called with the share done, after each window of the network

    Returns
    -------
    LabelMap on the grid of the volume; the same bytes for the same volume

    Raises
    ------
    BadInput
        The volume is not what the recipe was made for.
    """
    return label(prepare(volume, segmenter.recipe), segmenter, progress=progress).label_map


def prepare(volume: Volume, recipe: SegmentationRecipe, to_space: NDArray[np.float64] | None = None) -> Prepared:
    """Bring a volume to what the networks read; this needs a processor alone, so it can go on beside a device.

    Parameters
    ----------
    volume : Volume (c, i, j, k), RAS+
    recipe : says on which grids
    to_space : array (4, 4), mm of the volume -> mm of the space that the regions of the recipe are in; None where the
        volume lies in it already

    Raises
    ------
    BadInput
        The volume is not what the recipe was made for.
    """
    fields = []
    for grid in _find_grids(volume, recipe, to_space):
        if recipe.regions:
            place = box_of(grid, volume.geometry, _MARGIN_MM)
            array = resample(volume.array[(slice(None), *place)], cut(volume.geometry, place), grid)
        else:
            array = resample(volume.array, volume.geometry, grid, goes_on=bool(recipe.shape))
        fields.append((grid, normalise(array, recipe.normalisation)))
    return Prepared(volume.geometry, tuple(fields))


def label(
    prepared: Prepared, segmenter: Segmenter, confidence: bool = False, progress: Progress | None = None
) -> Segmentation:
    """Label what was prepared, and clean it as the recipe says.

    Parameters
    ----------
    prepared : of `prepare`, by the same recipe
    segmenter : of `load_segmenter`
    confidence : give the probability of each voxel's label too
    progress : called with the share done, after each window of the network

    Returns
    -------
    Segmentation
    """
    recipe, fields = segmenter.recipe, prepared.fields

    def told(number: int) -> Progress | None:
        return progress and (lambda share: progress((number + share) / len(fields)))

    labels: Labels
    sure: NDArray[np.float16] | None
    if recipe.regions:
        labels, sure = _label_regions(prepared, segmenter, told)
    else:
        [(grid, array)] = fields
        numbers = own_labels(recipe.label_regions)
        whole: Box = tuple(slice(0, side) for side in prepared.geometry.shape)  # type: ignore[assignment]
        place = box_of(grid, prepared.geometry, 0.0) if recipe.crop_head else whole
        reducer = LabelReducer(grid, cut(prepared.geometry, place), max(recipe.labels) + 1, confidence, numbers)
        for box, probabilities in stream_probabilities(array, segmenter, told(0)):
            reducer.take(box, probabilities)
        labels, sure = _paste(reducer, place, prepared.geometry)
    found = LabelMap(labels, prepared.geometry, recipe.output_labels)
    found, cleaned = clean(found, recipe.smallest_ml, recipe.fill_holes)
    return Segmentation(found, sure if confidence else None, cleaned)


def _paste(reducer: LabelReducer, place: Box, geometry: Geometry) -> tuple[Labels, NDArray[np.float16] | None]:
    """Return labels and confidence on the whole grid; beyond the box that was read there is background for sure."""
    if reducer.labels.shape == geometry.shape:
        return reducer.labels, reducer.confidence
    labels: Labels = np.zeros(geometry.shape, reducer.labels.dtype)
    labels[place] = reducer.labels
    if reducer.confidence is None:
        return labels, None
    sure = np.ones(geometry.shape, np.float16)
    sure[place] = reducer.confidence
    return labels, sure


def _label_regions(
    prepared: Prepared, segmenter: Segmenter, told: Callable[[int], Progress | None]
) -> tuple[Labels, NDArray[np.float16]]:
    """Label region by region; where two meet, the first one stays."""
    labels = np.zeros(prepared.geometry.shape, dtype=np.uint8)
    sure = np.ones(prepared.geometry.shape, dtype=np.float16)
    for number, (grid, array) in enumerate(prepared.fields):
        place = box_of(grid, prepared.geometry, _MARGIN_MM)
        found, best = reduce_turned(predict(array, segmenter, told(number)), grid, cut(prepared.geometry, place))
        free = labels[place] == 0
        taken = free & (found > 0)
        labels[place][taken] = found[taken] + number * len(segmenter.recipe.labels)
        sure[place][free] = best[free]
    return labels, sure


def _find_grids(
    volume: Volume, recipe: SegmentationRecipe, to_space: NDArray[np.float64] | None = None
) -> list[Geometry]:
    channels = recipe.config.get("in_channels", 1)
    if volume.array.shape[0] != channels:
        raise BadInput(
            f"an image of {volume.array.shape[0]} channels", f"{channels}", "Give the contrast that the recipe names."
        )
    if recipe.regions:
        grids = [grid_of_region(region, recipe.spacing_mm) for region in recipe.regions]
        if to_space is not None:  # whoever placed the volume has seen to what it holds
            return [Geometry(grid.shape, np.linalg.inv(to_space) @ grid.affine) for grid in grids]
        for grid in grids:
            _refuse_unless_held(grid, volume.geometry)
        return grids
    _refuse_size(volume.geometry, recipe)
    return [choose_grid(volume.array, volume.geometry, recipe)]


def _refuse_size(geometry: Geometry, recipe: SegmentationRecipe) -> None:
    sides = np.array(geometry.shape) * np.array(geometry.spacing)
    largest = np.array(recipe.largest_mm or (np.inf,) * 3)
    flat = recipe.patch[2] == 1  # made for slices
    if (sides[: 2 if flat else 3] < _THINNEST_MM).any() or (sides > largest).any():
        raise BadInput(
            f"a field of {' x '.join(f'{side:.0f}' for side in sides)} mm",
            f"{_THINNEST_MM:.0f} to {' x '.join(f'{side:.0f}' for side in largest)} mm",
            "Cut out the region around one hippocampus, or use hippocampus-t1 for a whole head.",
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
            "Use hippocampus-t1, which aligns the head by itself.",
        )


def _span(geometry: Geometry) -> str:
    corners = np.array(np.meshgrid(*((0, side - 1) for side in geometry.shape))).reshape(3, -1)
    at = geometry.affine[:3, :3] @ corners + geometry.affine[:3, 3:]
    return ", ".join(
        f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in zip("xyz", at.min(1), at.max(1), strict=True)
    )
