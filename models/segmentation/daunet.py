"""DAUNet: a U-Net whose bottleneck attends to positions and channels, and may guide (Bouget et al. 2021)."""

from itertools import pairwise
from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.segmentation.agunet import (
    AGUNetConfig,
    AttentionGate,
    ConvBlock,
    Factors,
    build_encoder,
    build_heads,
    encode,
    multiply,
    read_levels,
)
from voxelight.models.segmentation.attention import ChannelAttention, PositionAttention
from voxelight.models.segmentation.joined import Doubling


class DAUNetConfig(AGUNetConfig):
    """Sizes and switches of a DAUNet; with `attention_guiding` it is the published DAGUNet.

    The paper form is ``channel_form="released"`` and ``guiding_form="released"``. Repaired by default: the weights of
    the channel map make each channel an average (DANet's form), and guiding maps reach finer levels by interpolation,
    where a transposed convolution of kernel 3 leaves voxels that hold its bias alone. The projections of the position
    attention are parameters in both; the published code draws them anew at every load.

    Parameters
    ----------
    in_channels, classes, filters, pooling, multi_scale_input, deep_supervision, dropout, norm_eps, norm_momentum,
    gate : as of `AGUNetConfig`
    attention_gates : weight each skip as AGUNet does; the published DAUNet doesn't
    dual_attention : attend to positions and channels in the bottleneck
    attention_guiding : give every decoder level the bottleneck as well
    channel_form, guiding_form : published or repaired
    attention_dropout : share of channels dropped within the two branches of attention and where they meet
    """

    attention_gates: bool = False
    dual_attention: bool = True
    attention_guiding: bool = False
    channel_form: Literal["danet", "released"] = "danet"
    guiding_form: Literal["interpolated", "released"] = "interpolated"
    attention_dropout: float = Field(0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _guides_as_released_by_cubes(self) -> Self:
        if self.attention_guiding and self.guiding_form == "released" and self.pooling is not None:
            raise ValueError("guiding_form released with a pooling of its own; it is known for 2 along all axes only")
        return self

    def build(self) -> "DAUNet":  # type: ignore[override]
        """Return the network with fresh weights."""
        return DAUNet(self)


class DAGUNetConfig(DAUNetConfig):
    """A DAUNet whose bottleneck guides the decoder."""

    attention_guiding: bool = True


class Branch(nn.Module):
    """Attention, convolution 3x3x3, normalisation, activation, dropout, convolution."""

    def __init__(self, config: DAUNetConfig, attention: nn.Module) -> None:
        super().__init__()
        width = config.filters[-1]
        self.attention = attention
        self.conv1, self.bn1 = nn.Conv3d(width, width, 3, padding=1), config.norm(width)
        self.drop = nn.Dropout3d(config.attention_dropout)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of x."""
        return cast(Tensor, self.conv2(self.drop(F.relu(self.bn1(self.conv1(self.attention(x)))))))


class DualAttention(nn.Module):
    """The sum of a branch that attends to positions and one that attends to channels, through a convolution 1x1x1."""

    def __init__(self, config: DAUNetConfig) -> None:
        super().__init__()
        width = config.filters[-1]
        self.position = Branch(config, PositionAttention(3, width, bias=False))
        self.channel = Branch(config, ChannelAttention(config.channel_form))
        self.drop = nn.Dropout3d(config.attention_dropout)
        self.conv, self.bn = nn.Conv3d(width, width, 1), config.norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of x, (b, c, i, j, k)."""
        return cast(Tensor, self.bn(self.conv(self.drop(self.position(x) + self.channel(x)))))


class Guide(nn.Module):
    """The bottleneck on the grid of a finer level."""

    def __init__(self, config: DAUNetConfig, outputs: int, strides: tuple[int, int, int]) -> None:
        super().__init__()
        self.strides, self.released = strides, config.guiding_form == "released"
        inputs, stride = config.filters[-1], strides[0]
        extra = max(0, stride - 3)
        self.up: nn.Module = (
            nn.ConvTranspose3d(inputs, outputs, 3, stride=stride, output_padding=extra)
            if self.released
            else nn.Conv3d(inputs, outputs, 1)
        )

    def forward(self, bottleneck: Tensor) -> Tensor:
        """Return features (b, outputs, s i, s' j, s'' k) for strides of s, s' and s''."""
        found = cast(Tensor, self.up(bottleneck))
        if not self.released:
            return F.interpolate(found, scale_factor=self.strides, mode="trilinear", align_corners=False)
        # Keras' "same" keeps the front; with a stride of 2 the full transposed convolution is one plane too long.
        i, j, k = (stride * side for stride, side in zip(self.strides, bottleneck.shape[2:], strict=True))
        return found[:, :, :i, :j, :k]


class GuidedDecoder(ConvBlock):
    """One level on the way up: double the grid, concatenate guide, skip and features, normalise, convolve."""

    def __init__(
        self, config: DAUNetConfig, inputs: int, outputs: int, factors: Factors, strides: tuple[int, int, int]
    ) -> None:
        parts = 3 if config.attention_guiding else 2
        super().__init__(config, parts * outputs, outputs)
        self.up = Doubling(inputs, outputs, factors)
        gate = AttentionGate(config, outputs, outputs, max(1, outputs // 2))
        self.ag = gate if config.attention_gates else None
        self.guide = Guide(config, outputs, strides) if config.attention_guiding else None
        self.cat_bn = config.norm(parts * outputs)

    def forward(self, x: Tensor, skip: Tensor | None = None, bottleneck: Tensor | None = None) -> Tensor:
        """Return features (b, outputs, i', j', k') from those below, the skip of this level and the bottleneck."""
        x = self.up(x)
        parts = [x]
        if skip is not None:
            parts.insert(0, skip if self.ag is None else self.ag(x, skip))
        if self.guide is not None and bottleneck is not None:
            parts.insert(0, self.guide(bottleneck))
        return super().forward(F.relu(self.cat_bn(torch.cat(parts, dim=1))))


class DAUNet(nn.Module):
    """Image (b, c, i, j, k) -> logits (b, label, i, j, k), for any grid."""

    def __init__(self, config: DAUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.enc = build_encoder(config)
        self.bottleneck = ConvBlock(config, *config.filters[-2:])
        self.attention = DualAttention(config) if config.dual_attention else None
        rising = config.filters[::-1]
        risen = config.factors[::-1]
        self.dec = nn.ModuleList(
            GuidedDecoder(config, below, width, factors, (strides[0], strides[1], strides[2]))
            for (below, width), factors, strides in zip(pairwise(rising), risen, multiply(risen)[1:], strict=True)
        )
        self.head = build_heads(config)

    def forward_levels(self, x: Tensor) -> list[Tensor]:
        """Return the logits of every head, finest first, on the grid of the image and its halves, rounded up."""
        return read_levels(self.head, self._decode(x), x.shape[2:], self.config.factors)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the finest head."""
        return read_levels(self.head[-1:], self._decode(x), x.shape[2:], self.config.factors)[0]

    def _decode(self, image: Tensor) -> list[Tensor]:
        """Return the features of every decoder level, coarsest first."""
        x, skips = encode(self.enc, image, self.config.factors)
        x = self.bottleneck(x)
        x = x if self.attention is None else self.attention(x)
        bottleneck, features = x, []
        for decoder, skip in zip(self.dec, reversed(skips), strict=True):
            x = decoder(x, skip, bottleneck)
            features.append(x)
        return features
