"""Halving and doubling of images with a small low-pass filter (Karras et al. 2020, StyleGAN2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TAPS = (1.0, 3.0, 3.0, 1.0)


def _kernel(x: Tensor, gain: float = 1.0) -> Tensor:
    taps = torch.tensor(_TAPS, dtype=x.dtype, device=x.device)
    return (gain * torch.outer(taps, taps) / taps.sum() ** 2)[None, None]


def upsample(x: Tensor) -> Tensor:
    """Return a tensor (b, c, 2i, 2j) from (b, c, i, j)."""
    flat = x.reshape(-1, 1, *x.shape[2:])
    return F.conv_transpose2d(flat, _kernel(x, gain=4.0), stride=2, padding=1).reshape(
        *x.shape[:2], *(2 * side for side in x.shape[2:])
    )


def downsample(x: Tensor) -> Tensor:
    """Return a tensor (b, c, i / 2, j / 2) from (b, c, i, j), sides even."""
    flat = F.conv2d(x.reshape(-1, 1, *x.shape[2:]), _kernel(x), stride=2, padding=1)
    return flat.reshape(*x.shape[:2], *flat.shape[2:])


class DownConv(nn.Module):
    """Filter, then a convolution 3x3 of stride 2: (b, inputs, i, j) -> (b, outputs, i / 2, j / 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return features on half the grid."""
        flat = F.conv2d(x.reshape(-1, 1, *x.shape[2:]), _kernel(x), padding=2)
        found: Tensor = self.conv(flat.reshape(*x.shape[:2], *flat.shape[2:]))
        return found
