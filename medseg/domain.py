"""Whether a picture shows what a recipe was made for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import BadInput
from voxelight.models.values import Volume

_COLOURFUL = 0.05  # range of the channels of a pixel, above which it has a colour
_FEW = 0.001  # of the pixels: compression leaves some
_BRIGHT = 0.5


def as_read(volume: Volume, recipe: SegmentationRecipe) -> Volume:
    """Return a picture in the channels that a recipe reads, or refuse it as out of its domain.

    A grey picture that is stored in three channels is one of one channel.

    Parameters
    ----------
    volume : picture (c, column, row, 1), values from 0 to 1
    recipe : for pictures

    Raises
    ------
    BadInput
        It has a colour where grey is due, or is bright where the recipe is for fluorescence: stained tissue, or
        another microscope.
    """
    array, channels = volume.array, recipe.config.get("in_channels", 1)
    if len(array) == 3 and channels == 1:
        if (share := _find_colour(array)) > _FEW:
            raise _out_of_domain(f"a picture with {share:.0%} of its pixels in colour", recipe, "a grey one")
        array = array.mean(axis=0, keepdims=True)
    elif len(array) == 1 and channels == 3:
        array = np.repeat(array, 3, axis=0)
    if recipe.domain == "fluorescence":
        low, high = (float(value) for value in np.percentile(array, (0.5, 99.5)))
        middle = float(np.median(array))
        if high > low and (middle - low) / (high - low) > _BRIGHT:
            raise _out_of_domain("a picture whose ground is brighter than what lies on it", recipe, "bright on dark")
    return Volume(array, volume.geometry)


def _find_colour(array: NDArray[Any]) -> float:
    return float(np.mean(np.ptp(array, axis=0) > _COLOURFUL))


def _out_of_domain(found: str, recipe: SegmentationRecipe, expected: str) -> BadInput:
    return BadInput(
        f"{found}: out of the domain of {recipe.name}",
        f"{expected}, as {recipe.name} was trained on",
        "Use a recipe that was trained on such pictures, or train one.",
    )
