"""Grids that a pyramid of poolings can halve: pad on the way in, cut on the way out."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(x: Tensor, multiple: int | Sequence[int], least: int = 0) -> Tensor:
    """Append zeros until every side is a multiple.

    Parameters
    ----------
    x : tensor (b, c, i, j) or (b, c, i, j, k)
    multiple : voxels, for all axes or for each
    least : smallest side

    Returns
    -------
    tensor with each side the next multiple that is not below `least`
    """
    each = [multiple] * (x.ndim - 2) if isinstance(multiple, int) else list(multiple)
    sides = [-(-max(side, least) // step) * step for side, step in zip(x.shape[2:], each, strict=True)]
    missing = [new - side for new, side in zip(sides, x.shape[2:], strict=True)]
    return F.pad(x, [edge for side in reversed(missing) for edge in (0, side)]) if any(missing) else x


def cut_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Drop what `pad_to_multiple` appended.

    Parameters
    ----------
    x : tensor (b, c, i', j') or (b, c, i', j', k')
    shape : (i, j) or (i, j, k), voxels to keep
    """
    kept: tuple[slice, ...] = tuple(slice(side) for side in shape)
    return x[(slice(None), slice(None), *kept)]
