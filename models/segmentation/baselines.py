"""MONAI's DynUNet, SegResNet and SwinUNETR under our contract, so that a comparison is one option away."""

from math import prod
from typing import Literal, Self, cast

from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet
from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet
from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from voxelight.models.segmentation.grid import cut_to, pad_to_multiple
from voxelight.models.segmentation.slices import through_slices


class BaselineConfig(BaseModel):
    """What the three have in common.

    Parameters
    ----------
    in_channels : image channels
    classes : labels, background included
    spatial_dims : 3 for volumes, 2 for slices
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: PositiveInt = 1
    classes: int = Field(2, ge=2)
    spatial_dims: Literal[2, 3] = 3


class DynUNetConfig(BaselineConfig):
    """Sizes of a DynUNet, MONAI's form of nnU-Net's network (Isensee et al. 2021).

    Parameters
    ----------
    in_channels, classes, spatial_dims : as of `BaselineConfig`
    filters : channels of each level, finest first
    kernels, strides : of each level, for all axes or for each; by default 3, and 1 then 2
    deep_supervision : a head at every decoder level but the two coarsest, for training
    residual : residual blocks in place of plain ones
    """

    filters: tuple[PositiveInt, ...] = Field((32, 64, 128, 256, 320), min_length=3)
    kernels: tuple[PositiveInt | tuple[PositiveInt, ...], ...] | None = None
    strides: tuple[PositiveInt | tuple[PositiveInt, ...], ...] | None = None
    deep_supervision: bool = True
    residual: bool = False

    @model_validator(mode="after")
    def _one_for_each_level(self) -> Self:
        for name, values in (("kernels", self.kernels), ("strides", self.strides)):
            if values is not None and len(values) != len(self.filters):
                raise ValueError(f"{len(values)} {name} for {len(self.filters)} levels of filters")
        return self

    def each(self, values: tuple[int | tuple[int, ...], ...] | None, usual: list[int]) -> list[tuple[int, ...]]:
        """Return one number for each level and axis."""
        chosen = usual if values is None else values
        return [value if isinstance(value, tuple) else (value,) * self.spatial_dims for value in chosen]

    def build(self) -> "DynUNet":
        """Return the network with fresh weights."""
        return DynUNet(self)


class DynUNet(nn.Module):
    """Image (b, c, i, j[, k]) -> logits (b, label, i, j[, k]), for any grid."""

    def __init__(self, config: DynUNetConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.filters)
        strides = config.each(config.strides, [1] + [2] * (levels - 1))
        # How much finer the image is than each level, for each axis.
        self.coarse = [tuple(prod(s[axis] for s in strides[: level + 1]) for axis in range(config.spatial_dims))
                       for level in range(levels)]  # fmt: skip
        self.net = MonaiDynUNet(
            spatial_dims=config.spatial_dims,
            in_channels=config.in_channels,
            out_channels=config.classes,
            kernel_size=config.each(config.kernels, [3] * levels),
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=config.filters,
            norm_name=("INSTANCE", {"affine": True}),
            deep_supervision=config.deep_supervision,
            deep_supr_num=max(1, levels - 2),
            res_block=config.residual,
        )

    def forward_levels(self, x: Tensor) -> list[Tensor]:
        """Return the logits of every head, finest first, on the grid of the image and of each level, rounded up."""
        finest = self(x)
        heads = list(self.net.heads) if self.config.deep_supervision else []
        return [finest] + [
            cut_to(head, [-(-side // step) for side, step in zip(x.shape[2:], self.coarse[level], strict=True)])
            for level, head in enumerate(heads, start=1)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the finest head."""
        if x.ndim > 2 + self.config.spatial_dims:
            return through_slices(self, x, context=1)
        # Instance normalisation needs two voxels at the coarsest level.
        padded = pad_to_multiple(x, self.coarse[-1], least=1 + max(self.coarse[-1]))
        return cut_to(cast(Tensor, self.net.output_block(self.net.skip_layers(padded))), x.shape[2:])


class SegResNetConfig(BaselineConfig):
    """Sizes of a SegResNet (Myronenko 2018).

    Parameters
    ----------
    in_channels, classes, spatial_dims : as of `BaselineConfig`
    filters : channels of the finest level, which each further one doubles; a multiple of 8
    blocks_down, blocks_up : residual blocks of each level; one less on the way up
    dropout : share of activations dropped
    """

    filters: int = Field(32, ge=8, multiple_of=8)
    blocks_down: tuple[PositiveInt, ...] = Field((1, 2, 2, 4), min_length=2)
    blocks_up: tuple[PositiveInt, ...] = (1, 1, 1)
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_less_on_the_way_up(self) -> Self:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(f"{len(self.blocks_up)} blocks_up for {len(self.blocks_down)} blocks_down; one less")
        return self

    def build(self) -> "SegResNet":
        """Return the network with fresh weights."""
        return SegResNet(self)


class SegResNet(nn.Module):
    """Image (b, c, i, j[, k]) -> logits (b, label, i, j[, k]), for any grid."""

    def __init__(self, config: SegResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = 2 ** (len(config.blocks_down) - 1)
        self.net = MonaiSegResNet(
            spatial_dims=config.spatial_dims,
            init_filters=config.filters,
            in_channels=config.in_channels,
            out_channels=config.classes,
            dropout_prob=config.dropout or None,
            blocks_down=config.blocks_down,
            blocks_up=config.blocks_up,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        if x.ndim > 2 + self.config.spatial_dims:
            return through_slices(self, x, context=1)
        return cut_to(cast(Tensor, self.net(pad_to_multiple(x, self.multiple))), x.shape[2:])


class SwinUNETRConfig(BaselineConfig):
    """Sizes of a SwinUNETR (Hatamizadeh et al. 2022).

    Parameters
    ----------
    in_channels, classes, spatial_dims : as of `BaselineConfig`
    filters : channels of the finest level; a multiple of 12
    depths, heads : blocks and attention heads of each of the four stages
    window : side of a window of attention, voxels
    second_version : a residual convolution in front of each stage (V2)
    """

    filters: int = Field(24, ge=12, multiple_of=12)
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 2, 2)
    heads: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 6, 12, 24)
    window: PositiveInt = 7
    second_version: bool = False

    def build(self) -> "SwinUNETR":
        """Return the network with fresh weights."""
        return SwinUNETR(self)


class SwinUNETR(nn.Module):
    """Image (b, c, i, j[, k]) -> logits (b, label, i, j[, k]), for any grid."""

    def __init__(self, config: SwinUNETRConfig) -> None:
        super().__init__()
        self.config = config
        self.net = MonaiSwinUNETR(
            in_channels=config.in_channels,
            out_channels=config.classes,
            depths=config.depths,
            num_heads=config.heads,
            window_size=config.window,
            feature_size=config.filters,
            spatial_dims=config.spatial_dims,
            use_v2=config.second_version,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        if x.ndim > 2 + self.config.spatial_dims:
            return through_slices(self, x, context=1)
        # Five halvings, and instance normalisation needs two voxels after them.
        return cut_to(cast(Tensor, self.net(pad_to_multiple(x, 32, least=33))), x.shape[2:])
