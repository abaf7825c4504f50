"""Volumes for networks that see slices: each slice with its neighbours as channels."""

from collections.abc import Callable

import torch
from torch import Tensor

AT_ONCE = 16


def stack_slices(volume: Tensor, context: int) -> Tensor:
    """Cut a volume along its last axis, each slice with its neighbours; the outermost stand in for what lies beyond.

    Parameters
    ----------
    volume : tensor (b, c, i, j, k)
    context : slices that a network sees at once, an odd number

    Returns
    -------
    tensor (b * k, context * c, i, j), the lowest neighbour first
    """
    return add_neighbours(volume, context).movedim(-1, 1).flatten(0, 1)


def add_neighbours(volume: Tensor, context: int) -> Tensor:
    """Put beside each slice of a volume its neighbours, as channels; the outermost stand in for what lies beyond.

    Parameters
    ----------
    volume : tensor (b, c, i, j, k)
    context : slices that a network sees at once, an odd number

    Returns
    -------
    tensor (b, context * c, i, j, k), the lowest neighbour first
    """
    depth = volume.shape[-1]
    reach = torch.arange(context, device=volume.device) - context // 2
    places = (torch.arange(depth, device=volume.device)[:, None] + reach).clamp(0, depth - 1)
    return volume[..., places].movedim(-1, 1).flatten(1, 2)  # from (b, c, i, j, k, context)


def through_slices(network: Callable[[Tensor], Tensor], volume: Tensor, context: int, at_once: int = AT_ONCE) -> Tensor:
    """Apply a network of slices to a volume.

    Parameters
    ----------
    network : tensor (b, context * c, i, j) -> tensor (b, label, i, j)
    volume : tensor (b, c, i, j, k)
    context : slices that the network sees at once
    at_once : slices that are computed together

    Returns
    -------
    tensor (b, label, i, j, k)
    """
    found = torch.cat([network(part) for part in torch.split(stack_slices(volume, context), at_once)])
    return found.reshape(volume.shape[0], volume.shape[-1], *found.shape[1:]).movedim(1, -1)
