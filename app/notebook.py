"""The two pipelines on arrays, for a notebook: the same values as a job gives for the same input."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, Geometry, LabelMap, Stimuli, Volume

if TYPE_CHECKING:
    from voxelight.medseg.segment import Segmenter
    from voxelight.neuro.decode import Decoding
    from voxelight.neuro.recipes import ReconstructionRecipe

_RAS = np.array([[0, 1], [1, 1], [2, 1]])


def segment(
    array: NDArray[Any], affine: NDArray[Any], recipe: str = "hippocampus-agunet", device: str = "auto"
) -> LabelMap:
    """Segment one image.

    Parameters
    ----------
    array : array (i, j, k)
        In any orientation, as `nibabel` gives it.
    affine : array (4, 4), voxel index -> RAS+ millimetres
    recipe : a segmentation recipe
    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``

    Returns
    -------
    LabelMap
        On the grid that was given, axes in the order that was given.

    Raises
    ------
    NotFound
        There is no such recipe.
    BadInput
        The array is not 3-D or not finite, the affine is none, or the field is too large for the recipe.
    """
    from voxelight.medseg.segment import segment as segment_volume

    array = np.asarray(array)
    if array.ndim != 3:
        raise BadInput(f"an array of shape {array.shape}", "(i, j, k)", "Give one volume; average or choose over time.")
    grid = Geometry((array.shape[0], array.shape[1], array.shape[2]), np.asarray(affine))
    axes = nib.io_orientation(grid.affine)
    turned = np.ascontiguousarray(nib.apply_orientation(array.astype(np.float32), axes))
    ras = Geometry(turned.shape, grid.affine @ nib.orientations.inv_ornt_aff(axes, grid.shape))
    found = segment_volume(Volume(turned[np.newaxis], ras), _load_segmenter(recipe, device))
    back = nib.apply_orientation(found.array, nib.orientations.ornt_transform(_RAS, axes))
    label_map: LabelMap = replace(found, array=np.ascontiguousarray(back), geometry=grid)
    return label_map


def decode(
    betas: Betas, stimuli: Stimuli, recipe: "str | ReconstructionRecipe" = "miyawaki-ridge", device: str = "auto"
) -> "Decoding":
    """Reconstruct every stimulus by a decoder that never saw it, and score it beside its null.

    Model estimate, not a photograph of thought.

    Parameters
    ----------
    betas : Betas (trial, voxel)
    stimuli : Stimuli, a picture for every stimulus of the betas
    recipe : name of a reconstruction recipe, or a recipe
    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``

    Returns
    -------
    Decoding
        `images` in the order of `stimulus_ids`, and `report` with interval, null, p and normalisation.

    Raises
    ------
    NotFound
        There is no such recipe.
    BadInput
        Betas, stimuli and recipe do not fit each other.
    """
    from voxelight.app.provenance import find_device
    from voxelight.neuro.decode import decode as decode_betas

    return decode_betas(betas, stimuli, recipe, find_device(device))


@lru_cache(maxsize=2)
def _load_segmenter(recipe: str, device: str) -> "Segmenter":
    """Load weights once for a whole notebook."""
    from voxelight.app.provenance import find_device
    from voxelight.medseg.recipes import find_recipe
    from voxelight.medseg.segment import load_segmenter

    return load_segmenter(find_recipe(recipe), find_device(device))
