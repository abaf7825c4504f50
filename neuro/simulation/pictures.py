"""The pictures that subjects see, read a batch at a time."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Stimuli

Rows = NDArray[np.intp]
Pictures = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]


class PictureSet(Protocol):
    """Pictures that need not fit into memory."""

    @property
    def ids(self) -> NDArray[np.str_]:
        """Ids of all pictures: array (picture,), str, unique."""

    def read(self, rows: Rows) -> Stimuli:
        """Read some pictures, in this order, none twice."""


class StimuliSet:
    """Pictures in memory.

    Parameters
    ----------
    stimuli : Stimuli
    """

    def __init__(self, stimuli: Stimuli) -> None:
        self._stimuli = stimuli

    @property
    def ids(self) -> NDArray[np.str_]:
        """Ids of all pictures."""
        return self._stimuli.ids

    def read(self, rows: Rows) -> Stimuli:
        """Return some pictures, in this order."""
        return Stimuli(self._stimuli.images[rows], self._stimuli.ids[rows])


def collect_batches(batches: Iterable[Stimuli]) -> StimuliSet:
    """Put batches of pictures together, in memory.

    Raises
    ------
    BadInput
        There is no batch, or batches differ in size or channels, or share an id.
    """
    parts = list(batches)
    if len({part.images.shape[1:] for part in parts}) != 1:
        raise BadInput(
            f"batches of pictures of the shapes {sorted({part.images.shape[1:] for part in parts})}",
            "at least one batch, all pictures of one shape",
            "Bring them to one size.",
        )
    images, ids = (np.concatenate(column) for column in zip(*((p.images, p.ids) for p in parts), strict=True))
    return StimuliSet(Stimuli(images, ids))


def resample_pictures(images: Pictures, side: int) -> Pictures:
    """Average pictures over the cells of another grid, and make grey ones three channels.

    Parameters
    ----------
    images : array (picture, row, column, channel)
    side : rows and columns of the result

    Returns
    -------
    array (picture, side, side, 3)
    """
    rows, columns = (_overlaps(length, side) for length in images.shape[1:3])
    small = (
        np.einsum("yr,prcd,xc->pyxd", rows, images, columns, optimize=True)
        if images.shape[1:3] != (side, side)
        else images
    )
    return np.ascontiguousarray(np.broadcast_to(small, (*small.shape[:3], 3)), dtype=np.float32)


def _overlaps(length: int, cells: int) -> Pictures:
    """Return the share of each cell that each pixel covers: array (cell, pixel), rows adding up to 1."""
    edges = np.arange(cells + 1) * length / cells
    pixels = np.arange(length)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares: Pictures = (np.maximum(shared, 0) * cells / length).astype(np.float32)
    return shares
