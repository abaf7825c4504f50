"""Grids that a pyramid of poolings can halve: pad on the way in, cut on the way out."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Append zeros until every side is a multiple.

    Parameters
    ----------
    x : tensor (b, c, i, j, k)
    multiple : voxels

    Returns
    -------
    tensor (b, c, i', j', k'), each side the next multiple
    """
    i, j, k = ((-side) % multiple for side in x.shape[2:])
    return F.pad(x, (0, k, 0, j, 0, i)) if i or j or k else x


def cut_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Drop what `pad_to_multiple` appended.

    Parameters
    ----------
    x : tensor (b, c, i', j', k')
    shape : (i, j, k), voxels to keep
    """
    i, j, k = shape
    return x[:, :, :i, :j, :k]
