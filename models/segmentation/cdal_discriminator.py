"""The discriminator of cDAL: whether a step of denoising is a real one; its features say where it looks."""

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.segmentation.cdal_diffusion import time_embedding
from voxelight.models.segmentation.cdal_generator import conv
from voxelight.models.segmentation.fir import downsample

Size = Literal["small", "large"]
# Channels of each block in multiples of the width, and whether it halves the grid.
BLOCKS: dict[Size, tuple[tuple[int, bool], ...]] = {
    "small": ((2, False), (4, True), (8, True), (8, True)),
    "large": ((4, True), (8, True), (8, True), (8, True), (8, True), (8, True)),
}
_SLOPE = 0.2
_GROUP = 4


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE)


def least_side(size: Size) -> int:
    """Return the smallest side of a label that the discriminator can look at, pixels."""
    return int(2 ** sum(halves for _, halves in BLOCKS[size]))


class DownBlock(nn.Module):
    """Two convolutions that know time, with a way around; half the grid where it halves."""

    def __init__(self, inputs: int, outputs: int, time: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.conv1, self.conv2 = conv(inputs, outputs), conv(outputs, outputs, scale=1e-5)
        self.time = nn.Linear(time, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)
        nn.init.xavier_uniform_(self.skip.weight)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return features (b, outputs, i / 2, j / 2), or on the same grid."""
        h = _act(self.conv1(_act(x)) + self.time(time)[:, :, None, None])
        if self.halves:
            h, x = downsample(h), downsample(x)
        return cast(Tensor, (self.conv2(h) + self.skip(x)) / math.sqrt(2))


def spread_over_batch(x: Tensor) -> Tensor:
    """Append a channel with the standard deviation within groups of the batch (Karras et al. 2018).

    Groups have four items, or as many as divide the batch.
    """
    batch, channels, i, j = x.shape
    group = next(size for size in range(min(batch, _GROUP), 0, -1) if batch % size == 0)
    spread = (x.reshape(group, -1, channels, i, j).var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return torch.cat([x, spread.repeat(group)[:, None, None, None].expand(-1, 1, i, j)], dim=1)


class Discriminator(nn.Module):
    """x_t, t and x_{t+1} -> a logit, high where the step is real.

    Parameters
    ----------
    label_channels : of x_t
    width : a block has a multiple of it
    time : numbers of embedded time
    size : ``small`` for sides from 8, ``large`` from 64
    """

    def __init__(self, label_channels: int, width: int, time: int, size: Size) -> None:
        super().__init__()
        self.time_dim = time
        self.time = nn.Sequential(nn.Linear(time, time), nn.LeakyReLU(_SLOPE), nn.Linear(time, time))
        self.first = nn.Conv2d(2 * label_channels, 2 * width, 1)
        widths = [2 * width, *(multiple * width for multiple, _ in BLOCKS[size])]
        self.blocks = nn.ModuleList(
            DownBlock(inputs, outputs, time, halves)
            for inputs, outputs, (_, halves) in zip(widths[:-1], widths[1:], BLOCKS[size], strict=True)
        )
        self.last = conv(widths[-1] + 1, widths[-1])
        self.judge = nn.Linear(widths[-1], 1)

    def look(self, x: Tensor, t: Tensor, x_next: Tensor) -> list[Tensor]:
        """Return the features after the first convolution and after each block."""
        time = _act(self.time(time_embedding(t, self.time_dim).to(x.dtype)))
        found = [self.first(torch.cat([x, x_next], dim=1))]
        for block in self.blocks:
            found.append(block(found[-1], time))
        return found

    def forward(self, x: Tensor, t: Tensor, x_next: Tensor) -> Tensor:
        """Return a tensor (b, 1)."""
        h = _act(self.last(spread_over_batch(self.look(x, t, x_next)[-1])))
        return cast(Tensor, self.judge(h.sum(dim=(2, 3))))


def attention_map(features: Tensor, shape: torch.Size) -> Tensor:
    """Return where the discriminator looks: the mean over channels, signed, on the grid of the label.

    Parameters
    ----------
    features : tensor (b, c, i', j')
    shape : (i, j)

    Returns
    -------
    tensor (b, 1, i, j)
    """
    mean = features.mean(dim=1, keepdim=True)
    return F.interpolate(mean, size=tuple(shape), mode="bilinear", align_corners=False)


def gradient_penalty(logits: Tensor, x: Tensor, gamma: float) -> Tensor:
    r"""Return :math:`\gamma / 2` times the mean squared slope at real labels (R1, Mescheder et al. 2018)."""
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gamma / 2 * slope.flatten(1).square().sum(dim=1).mean()
