"""A fixed encoder for late voxels: where Gabor energies are, and how they go together. It is trained on nothing."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Stimuli
from voxelight.neuro.simulation.gabor import GaborBank, make_bank, see
from voxelight.neuro.simulation.late import Encoder

Floats = NDArray[np.floating[Any]]

_WINDOWS = 4  # along one axis, for means
_QUARTERS = 2  # along one axis, for products


def encode_texture(stimuli: Stimuli) -> NDArray[np.float32]:
    """Return means of compressed channels in 4 x 4 windows, and their products, two by two, in each quarter.

    The products are correlations of complex-cell outputs at one place, as in models of V2 and V4.

    Parameters
    ----------
    stimuli : Stimuli (picture, row, column, channel)

    Returns
    -------
    array (picture, feature)

    References
    ----------
    Portilla & Simoncelli (2000), Int. J. Computer Vision 40:49; Freeman et al. (2013), Nature Neuroscience 16:974.
    """
    channels = np.sqrt(see(stimuli.images, _bank()))
    means = _windows(channels, _WINDOWS).mean(-1)
    quarters = _windows(channels, _QUARTERS).transpose(0, 2, 1, 3)
    above = np.triu_indices(channels.shape[1])
    products = (quarters @ quarters.swapaxes(2, 3) / quarters.shape[3])[:, :, above[0], above[1]]
    return np.concatenate([part.reshape(len(channels), -1) for part in (means, products)], axis=1, dtype=np.float32)


def _windows(channels: NDArray[np.float32], along: int) -> NDArray[np.float32]:
    """Cut the grid: array (picture, channel, window, place)."""
    pictures, count, grid, _ = channels.shape
    cells = channels.reshape(pictures, count, along, grid // along, along, grid // along)
    return cells.transpose(0, 1, 2, 4, 3, 5).reshape(pictures, count, along**2, -1)


@cache
def _bank() -> GaborBank:
    return make_bank()


TEXTURE = Encoder("gabor-texture", encode_texture)
