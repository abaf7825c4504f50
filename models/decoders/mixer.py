"""The MLP mixer of MindEye2's backbone, and what is left of it where the sequence has one entry."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn


def mixer_block(width: int, dropout: float = 0.15) -> nn.Sequential:
    """Return a layer norm and a two-layer MLP over the last axis, of `width`."""
    mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width))
    return nn.Sequential(nn.LayerNorm(width), mlp)


def mix(x: Tensor, over_width: Iterable[nn.Module], over_sequence: Iterable[nn.Module]) -> Tensor:
    """Mix along the width and along the sequence in turn (Tolstikhin et al. 2021), each with a residual of its own.

    Unlike in that paper, the residual of one axis does not see what was added along the other.

    Parameters
    ----------
    x : tensor (b, n, h)
    over_width, over_sequence : blocks over h and over n

    Returns
    -------
    tensor (b, n, h)
    """
    along_width, along_sequence = x, x.transpose(1, 2)
    for first, second in zip(over_width, over_sequence, strict=True):
        along_width = first(x) + along_width
        along_sequence = second(along_width.transpose(1, 2)) + along_sequence
        x = along_sequence.transpose(1, 2)
    return x


def shift(over_sequence: Iterable[nn.Module], like: Tensor, each: bool = False) -> Tensor:
    r"""Return the number c by which `mix` moves the entries of a sequence of one, :math:`x \mapsto x + c`.

    A layer norm over one entry returns its bias whatever it sees, so that every block adds a constant, and what was
    mixed along the width is lost.

    Parameters
    ----------
    over_sequence : blocks of width 1
    like : tensor (b, 1, h), gives type and device
    each : whether every entry has a dropout of its own, as in training; in evaluation c is the same for all

    Returns
    -------
    tensor (1,), or (b, 1, h) where each entry has its own
    """
    nothing = like.new_zeros(*like.mT.shape) if each else like.new_zeros(1)
    total = torch.stack([_after_norm(block, nothing) for block in over_sequence]).sum(dim=0)
    return total.mT if each else total


def _after_norm(block: nn.Module, nothing: Tensor) -> Tensor:
    """Return a block of zeros, without a pass over rows of one entry, which takes a GPU long."""
    norm, mlp = cast(nn.Sequential, block)
    norm = cast(nn.LayerNorm, norm)
    return cast(Tensor, mlp(nothing * norm.weight + norm.bias))
