"""AGUNet: a U-Net with attention gates, a pyramid of inputs and deep supervision (Bouget et al. 2021)."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import ClassVar, Literal, Self, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.segmentation.grid import cut_to, pad_to_multiple
from voxelight.models.segmentation.joined import Doubling, JoinedConvolution

Factors = tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]]


class AGUNetConfig(BaseModel):
    """Sizes and switches of an AGUNet.

    The defaults are the published network, which needs sides that can be halved and more than 4 voxels before each
    pooling; here any grid is padded and cut. Its loss is repaired in `medseg.losses`.

    Parameters
    ----------
    in_channels : image channels
    classes : labels, background included
    filters : channels of each level, finest first; the last is the bottleneck
    pooling : what each pooling divides each axis by, finest first, for voxels that are no cubes; None: 2 along all
    attention_gates : weight each skip by a map learned from the level below
    gate : how skip and gating features meet, ``concat`` as published or ``add`` as Oktay et al. 2018 have it
    multi_scale_input : give every encoder level but the first the averaged image as well
    deep_supervision : a head at every decoder level, for training
    dropout : share of channels dropped after each activation
    norm_eps, norm_momentum : of every batch normalisation; the published values by default
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    spatial_dims: ClassVar[int] = 3

    in_channels: PositiveInt = 1
    classes: int = Field(2, ge=2)
    filters: tuple[PositiveInt, ...] = Field((16, 32, 128, 256, 256), min_length=2)
    pooling: tuple[Factors, ...] | None = None
    attention_gates: bool = True
    gate: Literal["concat", "add"] = "concat"
    multi_scale_input: bool = True
    deep_supervision: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)
    norm_eps: float = Field(1e-3, gt=0)
    norm_momentum: float = Field(0.01, gt=0, le=1)

    @model_validator(mode="after")
    def _pools_between_levels(self) -> Self:
        if self.pooling is not None and len(self.pooling) != len(self.filters) - 1:
            raise ValueError(f"{len(self.pooling)} poolings between {len(self.filters)} levels of filters")
        return self

    @property
    def factors(self) -> tuple[Factors, ...]:
        """What each pooling divides each axis by, finest level first."""
        return self.pooling or ((2, 2, 2),) * (len(self.filters) - 1)

    def build(self) -> "AGUNet":
        """Return the network with fresh weights."""
        return AGUNet(self)

    def norm(self, channels: int) -> nn.BatchNorm3d:
        """Return the normalisation that every convolution is followed by."""
        return nn.BatchNorm3d(channels, eps=self.norm_eps, momentum=self.norm_momentum)


class ConvBlock(nn.Module):
    """Twice convolution 3x3x3, normalisation, activation, dropout."""

    def __init__(self, config: AGUNetConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = JoinedConvolution(inputs, outputs, 3, padding=1)
        self.bn1 = config.norm(outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.bn2 = config.norm(outputs)
        self.act1, self.act2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.drop = nn.Dropout3d(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (b, outputs, i, j, k)."""
        return self.join(x)

    def join(self, *parts: Tensor) -> Tensor:
        """Return features (b, outputs, i, j, k) from parts whose channels sum to the inputs."""
        x = self.drop(self.act1(self.bn1(self.conv1(*parts))))
        return cast(Tensor, self.drop(self.act2(self.bn2(self.conv2(x)))))


class Encoder(ConvBlock):
    """One level on the way down; the averaged image, if given, stands in front of the features."""

    def __init__(self, config: AGUNetConfig, inputs: int, outputs: int, pyramid: bool) -> None:
        super().__init__(config, inputs + (outputs if pyramid else 0), outputs)
        self.ms_conv = nn.Conv3d(config.in_channels, outputs, 3, padding=1) if pyramid else None
        self.ms_act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, image: Tensor | None = None) -> Tensor:
        """Return features (b, outputs, i, j, k) from those above and the image averaged to this level."""
        if self.ms_conv is None or image is None:
            return self.join(x)
        return self.join(self.ms_act(self.ms_conv(image)), x)


class AttentionGate(nn.Module):
    r"""Weight a skip connection by one map, made from the skip and from the coarser features.

    .. math:: \psi = \sigma(N(w * \mathrm{relu}[N(w_g * g), N(w_x * x)])), \quad y = \psi x

    The two are concatenated (Bouget et al. 2021), or added where the configuration says so (Oktay et al. 2018).
    """

    def __init__(self, config: AGUNetConfig, gating: int, skip: int, inter: int) -> None:
        super().__init__()
        self.g_conv, self.g_bn = nn.Conv3d(gating, inter, 1), config.norm(inter)
        self.x_conv, self.x_bn = nn.Conv3d(skip, inter, 1), config.norm(inter)
        self.adds = config.gate == "add"
        self.g_act, self.x_act = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.psi_conv, self.psi_bn = JoinedConvolution(inter if self.adds else 2 * inter, 1, 1), config.norm(1)

    def weigh(self, g: Tensor, x: Tensor) -> Tensor:
        """Return the map psi, tensor (b, 1, i, j, k) in [0, 1]."""
        gating, skip = self.g_bn(self.g_conv(g)), self.x_bn(self.x_conv(x))
        parts = [self.g_act(gating + skip)] if self.adds else [self.g_act(gating), self.x_act(skip)]
        return torch.sigmoid(self.psi_bn(self.psi_conv(*parts)))

    def forward(self, g: Tensor, x: Tensor) -> Tensor:
        """Return the skip x (b, c, i, j, k), weighed by what it and the gating features g (b, c', i, j, k) show."""
        return x * self.weigh(g, x)


class Decoder(ConvBlock):
    """One level on the way up: double the grid, gate the skip, concatenate, convolve."""

    def __init__(self, config: AGUNetConfig, inputs: int, outputs: int, factors: Factors) -> None:
        super().__init__(config, 2 * outputs, outputs)
        self.up = Doubling(inputs, outputs, factors)
        self.up_bn, self.up_act = config.norm(outputs), nn.ReLU(inplace=True)
        gate = AttentionGate(config, outputs, outputs, max(1, outputs // 2))
        self.ag = gate if config.attention_gates else None

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Return features (b, outputs, i', j', k') from those below and the skip of this level, on its grid."""
        x = self.up_act(self.up_bn(self.up(x)))
        return self.join(x) if skip is None else self.join(x, skip if self.ag is None else self.ag(x, skip))


def build_encoder(config: AGUNetConfig) -> nn.ModuleList:
    """Return the levels on the way down, finest first, without the bottleneck."""
    widths = config.filters[:-1]
    return nn.ModuleList(
        Encoder(config, below, width, pyramid=config.multi_scale_input and level > 0)
        for level, (below, width) in enumerate(zip((config.in_channels, *widths[:-1]), widths, strict=True))
    )


def build_heads(config: AGUNetConfig) -> nn.ModuleList:
    """Return the convolutions that end the decoder levels, coarsest first; only the last without deep supervision."""
    rising = config.filters[-2::-1]
    heads = rising if config.deep_supervision else rising[-1:]
    return nn.ModuleList(nn.Conv3d(width, config.classes, 1) for width in heads)


def multiply(factors: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return what the finest level and every coarser one divides each axis by, from what each pooling does."""
    return list(accumulate(factors, lambda all_, one: [a * b for a, b in zip(all_, one, strict=True)], initial=[1] * 3))


def encode(encoder: nn.ModuleList, image: Tensor, factors: Sequence[Factors]) -> tuple[Tensor, list[Tensor]]:
    """Return what goes into the bottleneck, and the skips, finest first; the image is padded to what is divisible."""
    image = pad_to_multiple(image, multiply(factors)[-1])
    x, skips = image, []
    for block, factor in zip(encoder, factors, strict=True):
        x = block(x, image)
        skips.append(x)
        x, image = F.max_pool3d(x, factor), F.avg_pool3d(image, factor)
    return x, skips


def read_levels(
    heads: nn.ModuleList, features: Sequence[Tensor], shape: Sequence[int], factors: Sequence[Factors]
) -> list[Tensor]:
    """Return the logits of every head, finest first, on the grid of the image and its parts, rounded up."""
    return [
        cut_to(head(level), [-(-side // step) for side, step in zip(shape, steps, strict=True)])
        for head, level, steps in zip(list(heads)[::-1], features[::-1], multiply(factors), strict=False)
    ]


class AGUNet(nn.Module):
    """Image (b, c, i, j, k) -> logits (b, label, i, j, k), for any grid."""

    def __init__(self, config: AGUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.enc = build_encoder(config)
        self.bottleneck = ConvBlock(config, *config.filters[-2:])
        rising = config.filters[::-1]
        self.dec = nn.ModuleList(
            Decoder(config, below, width, factors)
            for (below, width), factors in zip(pairwise(rising), config.factors[::-1], strict=True)
        )
        self.head = build_heads(config)

    def forward_levels(self, x: Tensor) -> list[Tensor]:
        """Return the logits of every head, finest first.

        Parameters
        ----------
        x : tensor (b, c, i, j, k)

        Returns
        -------
        list of tensor (b, label, ceil(i / 2^n), ceil(j / 2^n), ceil(k / 2^n)) for n = 0, 1, ...; with a `pooling` of
        its own, by what that divides each axis by
        """
        return read_levels(self.head, self._decode(x), x.shape[2:], self.config.factors)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the finest head."""
        return read_levels(self.head[-1:], self._decode(x), x.shape[2:], self.config.factors)[0]

    def _decode(self, image: Tensor) -> list[Tensor]:
        """Return the features of every decoder level, coarsest first."""
        x, skips = encode(self.enc, image, self.config.factors)
        x = self.bottleneck(x)
        features = []
        for decoder, skip in zip(self.dec, reversed(skips), strict=True):
            x = decoder(x, skip)
            features.append(x)
        return features
