"""From a volume to what a network reads, and the grids in between."""

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelight.medseg.recipes.recipe import Normalisation, Region, SegmentationRecipe
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry

_SMALLEST_RANGE = 1e-8
_HEAD_SHARE = 0.2  # of the range, above which something is there


def normalise(array: NDArray[np.float32], options: Normalisation) -> NDArray[np.float32]:
    """Clip to percentiles, then bring each channel to one scale.

    Parameters
    ----------
    array : array (..., i, j, k)
    options : percentiles and method

    Returns
    -------
    array of the same shape: mean 0 and deviation 1 (``zscore``), 0 to 1 (``minmax``), or as the options say (``fixed``)

    Raises
    ------
    BadInput
        A channel holds one value only, so that there is nothing to see.
    """
    if options.method == "fixed":
        fixed: NDArray[np.float32] = (np.clip(array, *options.clip) - options.mean) / options.deviation
        return fixed.astype(np.float32)
    space = (-3, -2, -1)
    low, high = np.percentile(array, options.percentiles, axis=space, keepdims=True)
    clipped = np.clip(array.astype(np.float64), low, high)
    if options.method == "zscore":
        offset, scale = clipped.mean(axis=space, keepdims=True), clipped.std(axis=space, keepdims=True)
    else:
        offset = clipped.min(axis=space, keepdims=True)
        scale = clipped.max(axis=space, keepdims=True) - offset
    if scale.min() <= _SMALLEST_RANGE * max(1.0, float(np.abs(offset).max())):
        raise BadInput(
            "an image that is one flat value where it is to be segmented",
            "tissue of different intensities",
            "Check that the scan holds signal there.",
        )
    scaled: NDArray[np.float32] = ((clipped - offset) / scale).astype(np.float32)
    return scaled


def crop_head(array: NDArray[np.float32], threshold: float = 0.2) -> tuple[slice, slice, slice]:
    """Find the box around everything brighter than a threshold, holes filled (Bouget et al. 2021).

    Parameters
    ----------
    array : array (i, j, k), normalised to 0..1
    threshold : in units of the normalised image

    Raises
    ------
    BadInput
        Nothing is brighter.
    """
    foreground = ndimage.binary_fill_holes(array > threshold)
    boxes = ndimage.find_objects(foreground.astype(np.uint8))
    if not boxes:
        raise BadInput(f"no voxel above {threshold}", "a head in the picture", "Check the normalisation.")
    return cast(tuple[slice, slice, slice], boxes[0])


def grid_of_spacing(geometry: Geometry, spacing_mm: tuple[float, float, float]) -> Geometry:
    """Return the grid with this spacing that covers the same field, centres aligned.

    Parameters
    ----------
    geometry : the field
    spacing_mm : voxel size (i, j, k) in mm
    """
    old = np.array(geometry.spacing)
    if np.allclose(old, spacing_mm, rtol=1e-4):
        return geometry
    new = np.array(spacing_mm)
    shape = np.maximum(1, np.round(np.array(geometry.shape) * old / new)).astype(int)
    affine = geometry.affine.copy()
    affine[:3, :3] *= new / old
    centre = geometry.affine[:3, :3] @ ((np.array(geometry.shape) - 1) / 2) + geometry.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def grid_of_shape(geometry: Geometry, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Geometry:
    """Return a grid of so many voxels that covers the same field, however large it is.

    Parameters
    ----------
    geometry : the field
    shape : voxels (i, j, k); 0: as many as keep the proportion to axis i that voxels of `spacing_mm` have
    spacing_mm : voxel size (i, j, k) in mm
    """
    field = np.array(geometry.shape) * geometry.spacing
    usual = field / spacing_mm
    wanted = [side or max(1, round(usual[axis] * shape[0] / usual[0])) for axis, side in enumerate(shape)]
    i, j, k = (float(side) for side in field / wanted)
    return grid_of_spacing(geometry, (i, j, k))


def choose_grid(array: NDArray[np.float32], geometry: Geometry, recipe: SegmentationRecipe) -> Geometry:
    """Return the grid that a recipe without regions reads an image on.

    Parameters
    ----------
    array : array (c, i, j, k); the first channel says where the head is, if that is asked for
    geometry : its grid
    recipe : spacing, shape, and whether to cut out the head

    Raises
    ------
    BadInput
        There is no head to cut out.
    """
    if recipe.crop_head:
        low, high = float(array[0].min()), float(array[0].max())
        geometry = cut(geometry, crop_head(array[0], low + _HEAD_SHARE * (high - low)))
    if recipe.shape:
        return grid_of_shape(geometry, recipe.shape, recipe.spacing_mm)
    return grid_of_spacing(geometry, recipe.spacing_mm)


def grid_of_region(region: Region, spacing_mm: tuple[float, float, float]) -> Geometry:
    """Return the grid of a box in world space; a mirrored box is read from right to left.

    Parameters
    ----------
    region : centre and size in RAS+ mm
    spacing_mm : voxel size (i, j, k) in mm
    """
    spacing = np.array(spacing_mm)
    shape = np.maximum(1, np.round(np.array(region.size_mm) / spacing)).astype(int)
    axes = np.diag(spacing * ([-1, 1, 1] if region.mirror else [1, 1, 1]))
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = np.array(region.centre_mm) - axes @ ((shape - 1) / 2)
    return Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def box_of(grid: Geometry, geometry: Geometry, margin_mm: float) -> tuple[slice, slice, slice]:
    """Return the voxels of one grid that another one reaches.

    Parameters
    ----------
    grid : what is to be covered
    geometry : whose voxels are chosen
    margin_mm : added on every side
    """
    step = np.linalg.inv(geometry.affine) @ grid.affine
    corners = np.array(np.meshgrid(*((0, side - 1) for side in grid.shape))).reshape(3, -1)
    at = step[:3, :3] @ corners + step[:3, 3:]
    margin = margin_mm / np.array(geometry.spacing)
    low = np.clip(np.floor(at.min(axis=1) - margin), 0, np.array(geometry.shape) - 1).astype(int)
    high = np.clip(np.ceil(at.max(axis=1) + margin) + 1, low + 1, geometry.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def cut(geometry: Geometry, box: tuple[slice, slice, slice]) -> Geometry:
    """Return the grid of a box of voxels."""
    affine = geometry.affine.copy()
    affine[:3, 3] += geometry.affine[:3, :3] @ [part.start for part in box]
    i, j, k = (part.stop - part.start for part in box)
    return Geometry((i, j, k), affine)


def resample(
    array: NDArray[np.float32], source: Geometry, target: Geometry, goes_on: bool = False
) -> NDArray[np.float32]:
    """Read an image on another grid, linearly, zero outside; smoothed first where the target is coarser.

    Parameters
    ----------
    array : array (c, i, j, k) on `source`
    source, target : grids in one world
    goes_on : outside, the outermost voxels go on in place of zero

    Returns
    -------
    array (c, i', j', k') on `target`
    """
    if source.matches(target):
        return array
    smooth = ndimage.gaussian_filter(array, (0.0, *_smoothing(source, target)), mode="nearest")
    onto = np.linalg.inv(source.affine) @ target.affine
    found = np.empty((len(array), *target.shape), np.float32)
    for channel, output in zip(smooth, found, strict=True):
        ndimage.affine_transform(channel, onto[:3, :3], onto[:3, 3], output=output, order=1,
                                 mode="nearest" if goes_on else "grid-constant")  # fmt: skip
    return found


def _smoothing(source: Geometry, target: Geometry) -> list[float]:
    """Return the deviation along each source axis that keeps a coarser grid from aliasing, in voxels.

    A voxel of side s, twice as wide at half its height, is s / 2.355 in deviation (Cardoso et al. 2015, eq. 3).
    """
    step = np.linalg.inv(source.affine[:3, :3]) @ target.affine[:3, :3]
    ratio = np.linalg.norm(step, axis=1)
    return [float(np.sqrt(max(r * r - 1, 0.0)) / 2.355) if r > 1.1 else 0.0 for r in ratio]
