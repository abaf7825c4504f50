"""MONAI's AttentionUnet (Oktay et al. 2018) under our contract: the baseline of every comparison."""

from typing import Literal, cast

from monai.networks.nets.attentionunet import AttentionUnet as MonaiAttentionUnet
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from voxelight.models.segmentation.grid import cut_to, pad_to_multiple
from voxelight.models.segmentation.slices import through_slices


class AttentionUnetConfig(BaseModel):
    """Sizes of a MONAI AttentionUnet.

    Parameters
    ----------
    in_channels : image channels
    classes : labels, background included
    filters : channels of each level, finest first
    dropout : share of activations dropped
    spatial_dims : 3 for volumes, 2 for slices
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: PositiveInt = 1
    classes: int = Field(2, ge=2)
    filters: tuple[PositiveInt, ...] = Field((24, 48, 96, 192), min_length=2)
    dropout: float = Field(0.0, ge=0, lt=1)
    spatial_dims: Literal[2, 3] = 3

    def build(self) -> "AttentionUnet":
        """Return the network with fresh weights."""
        return AttentionUnet(self)


class AttentionUnet(nn.Module):
    """Image (b, c, i, j[, k]) -> logits (b, label, i, j[, k]), for any grid."""

    def __init__(self, config: AttentionUnetConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = 2 ** (len(config.filters) - 1)
        self.net = MonaiAttentionUnet(
            spatial_dims=config.spatial_dims,
            in_channels=config.in_channels,
            out_channels=config.classes,
            channels=config.filters,
            strides=(2,) * (len(config.filters) - 1),
            dropout=config.dropout,
        )

    def forward_levels(self, x: Tensor) -> list[Tensor]:
        """Return the logits as the only level."""
        return [self(x)]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        if x.ndim > 2 + self.config.spatial_dims:
            return through_slices(self, x, context=1)
        return cut_to(cast(Tensor, self.net(pad_to_multiple(x, self.multiple))), x.shape[2:])
