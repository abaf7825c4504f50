"""What `voxelight.models.diffusion.kernels` computes, in PyTorch's own operations: for a CPU, and for float32."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def layer_norm(x: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return the layer norm of ``x + shift`` over the last axis."""
    return F.layer_norm(x + shift.to(x.dtype), weight.shape, weight, bias, eps)


def group_norm(parts: Sequence[Tensor], add: Tensor | None, norm: nn.GroupNorm, silu: bool) -> Tensor:
    """Return ``norm(cat(parts) + add)``, then SiLU where asked for; add is (b, c)."""
    x = torch.cat(list(parts), dim=1) if len(parts) > 1 else parts[0]
    x = x if add is None else x + add[:, :, None, None]
    y = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return F.silu(y) if silu else y


def double(x: Tensor) -> Tensor:
    """Return x (b, c, h, w) at twice the height and width, each pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def add_bias_(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """Add y (b, c, h, w) and the bias (c,) of each channel to x in place."""
    return x.add_(y).add_(bias.to(x.dtype)[:, None, None])


def geglu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``value * gelu(gate)`` of a linear layer whose outputs alternate value, gate, value, gate..."""
    product = F.linear(x, weight, bias)
    out: Tensor = product[..., ::2] * F.gelu(product[..., 1::2])
    return out
