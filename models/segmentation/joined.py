"""Convolutions on the way up of a U-Net, written so that what computes fastest can take their place (`fuse`)."""

import torch
from torch import Tensor, nn


class JoinedConvolution(nn.Conv3d):
    """A convolution of features that stand one behind the other, channels after channels."""

    def forward(self, *parts: Tensor) -> Tensor:
        """Return features (b, outputs, i, j, k) from parts (b, c, i, j, k) whose channels sum to the inputs."""
        return super().forward(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])


class Doubling(nn.ConvTranspose3d):
    """A transposed convolution of 3x3x3 that doubles the grid along all axes, or along some.

    Keras' "same" keeps the front of the full transposed convolution, so the last plane of each doubled axis goes; of an
    axis that stays as it is, the first and the last.
    """

    def __init__(self, inputs: int, outputs: int, factors: tuple[int, int, int] = (2, 2, 2)) -> None:
        super().__init__(inputs, outputs, 3, stride=factors)
        self.kept = tuple(slice(None if factor == 2 else 1, -1) for factor in factors)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Return features (b, outputs, i', j', k') on the finer grid."""
        return super().forward(x)[:, :, self.kept[0], self.kept[1], self.kept[2]]
