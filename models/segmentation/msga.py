"""Multi-scale self-guided attention (Sinha and Dolz 2020): two stages of attention over four scales of a backbone."""

from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.backbone_weights import read_backbone_weights
from voxelight.models.segmentation.attention import ChannelAttention, PositionAttention
from voxelight.models.segmentation.backbones import Backbone, BackboneName
from voxelight.models.segmentation.grid import cut_to, pad_to_multiple
from voxelight.models.segmentation.slices import through_slices

_SCALES = 4
_STRIDE = 32


class MSGAConfig(BaseModel):
    """Sizes and switches of a multi-scale self-guided attention network.

    The paper form is ``backbone="resnext101_32x8d"``, ``initialisation="xavier"`` and the loss ``ce``, for one channel
    of 256 x 256 and five classes. Repaired: any size, channels and classes, no weights that nothing reads, attention
    without its map of 4096 x 4096, and a backbone that may start from ImageNet.

    Parameters
    ----------
    in_channels : image channels of one slice
    classes : labels, background included
    context : slices that are seen at once, as channels; an odd number, 1 for 2-D and more for 2.5-D
    backbone : a network of torchvision's ResNet family
    backbone_width : planes of its first level; other than torchvision's 64 it can't start from ImageNet
    pretrained : start training from ImageNet weights
    width : channels of every scale after the backbone; a multiple of 8
    initialisation : ``kaiming`` as torchvision has it, or ``xavier`` with normalisations about 1, as published
    guide_weight, reconstruction_weight : of the guided losses
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    spatial_dims: ClassVar[int] = 2

    in_channels: PositiveInt = 1
    classes: int = Field(2, ge=2)
    context: PositiveInt = 1
    backbone: BackboneName = "resnet50"
    backbone_width: int = Field(64, ge=8, multiple_of=8)
    pretrained: bool = False
    width: int = Field(64, ge=8, multiple_of=8)
    initialisation: Literal["kaiming", "xavier"] = "kaiming"
    guide_weight: float = Field(0.25, ge=0)
    reconstruction_weight: float = Field(0.1, ge=0)

    @field_validator("context")
    @classmethod
    def _has_a_middle(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("an odd number of slices, so that one is in the middle")
        return value

    @model_validator(mode="after")
    def _starts_from_weights_that_fit(self) -> Self:
        if self.pretrained and self.backbone_width != 64:
            raise ValueError(f"pretrained with a backbone_width of {self.backbone_width}: ImageNet weights have 64")
        return self

    def build(self) -> "MSGA":
        """Return the network with fresh weights."""
        return MSGA(self)


class Guided(NamedTuple):
    """What training compares.

    Parameters
    ----------
    logits : of stage 1, then of stage 2, finest scale first; tensors (b, label, i, j)
    vectors : bottlenecks of the two stages for each scale, finest first
    reconstructions : what went into each autoencoder and what came out, stage 1 then stage 2, finest scale first
    """

    logits: list[Tensor]
    vectors: list[tuple[Tensor, Tensor]]
    reconstructions: list[tuple[Tensor, Tensor]]


def conv_unit(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    """Return convolution, normalisation and an activation of one learned slope."""
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs), nn.PReLU()]


def attention_layer(inputs: int, width: int, attention: nn.Module) -> nn.Sequential:
    """Return attention between two convolutions, (b, inputs, i, j) -> (b, width, i, j)."""
    return nn.Sequential(*conv_unit(inputs, width, 3), attention, *conv_unit(width, width, 3))


def fusion(inputs: int, width: int) -> nn.Sequential:
    """Return what makes one map of all scales, (b, inputs, i, j) -> (b, width, i, j)."""
    return nn.Sequential(*conv_unit(inputs, width, 3), *conv_unit(width, width, 3), *conv_unit(width, width, 1))


def _double_conv(inputs: int, outputs: int, last: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), last,
    )  # fmt: skip


class Autoencoder(nn.Module):
    """The semantic module: an encoder of two halvings and a decoder back, whose bottleneck is compared over stages."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide, wider = 2 * channels, 4 * channels
        self.enc1 = _double_conv(channels, wide, nn.MaxPool2d(2))
        self.enc2 = _double_conv(wide, wider, nn.MaxPool2d(2))
        self.dec2 = _double_conv(wider, wide, nn.ConvTranspose2d(wide, wide, 2, stride=2))
        self.dec1 = _double_conv(wide, channels, nn.ConvTranspose2d(channels, channels, 2, stride=2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return bottleneck (b, 4c, i / 4, j / 4) and reconstruction (b, c, i, j)."""
        bottleneck = self.enc2(self.enc1(x))
        return bottleneck, self.dec1(self.dec2(bottleneck))


class Stage(nn.Module):
    """Attention of every scale, with one autoencoder for all of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        both = 2 * width
        self.semantic = Autoencoder(both)
        self.position = nn.ModuleList(
            attention_layer(both, width, PositionAttention(2, width, bias=True)) for _ in range(_SCALES)
        )
        self.channel = nn.ModuleList(attention_layer(both, width, ChannelAttention("danet")) for _ in range(_SCALES))
        self.narrow = nn.ModuleList(nn.Conv2d(both, width, 3, padding=1) for _ in range(_SCALES))
        self.mix = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(_SCALES))

    def forward(self, x: Tensor, scale: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return refined features (b, width, i, j), bottleneck and reconstruction of x (b, 2 width, i, j)."""
        bottleneck, rebuilt = self.semantic(x)
        attended = self.position[scale](x) + self.channel[scale](x)
        return self.mix[scale](attended * self.narrow[scale](rebuilt)), bottleneck, rebuilt


class Head(nn.Module):
    """Everything after the backbone."""

    def __init__(self, widths: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Sequential(*conv_unit(inputs, width, 1)) for inputs in widths)
        self.fuse = fusion(_SCALES * width, width)
        self.stages = nn.ModuleList([Stage(width), Stage(width)])
        self.predict = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in range(2 * _SCALES))

    def forward(self, features: list[Tensor]) -> Guided:
        """Return what training compares, logits on the finest grid of the features."""
        size = features[0].shape[2:]
        scales = [_resize(down(x), size) for down, x in zip(self.down, features, strict=True)]
        fused = self.fuse(torch.cat(scales[::-1], dim=1))
        refined: list[Tensor] = []
        vectors: list[tuple[Tensor, Tensor]] = []
        firsts: list[tuple[Tensor, Tensor]] = []
        seconds: list[tuple[Tensor, Tensor]] = []
        for scale, x in enumerate(scales):
            first = torch.cat([x, fused], dim=1)
            attention, vector, rebuilt = self.stages[0](first, scale)
            second = torch.cat([x, attention * fused], dim=1)
            found, other, again = self.stages[1](second, scale)
            refined.append(found)
            vectors.append((vector.flatten(), other.flatten()))
            firsts.append((first, rebuilt))
            seconds.append((second, again))
        logits = [predict(x) for predict, x in zip(self.predict, [*scales, *refined], strict=True)]
        return Guided(logits, vectors, [*firsts, *seconds])


class MSGA(nn.Module):
    """Image (b, c, i, j) or volume (b, c, i, j, k) -> logits, for any grid."""

    objective = "guided"

    def __init__(self, config: MSGAConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, config.in_channels * config.context, config.backbone_width)
        self.head = Head(self.backbone.widths, config.width, config.classes)
        if config.initialisation == "xavier":
            self.apply(_as_published)

    def warm_start(self) -> None:
        """Take the backbone's ImageNet weights where the configuration asks for them."""
        if self.config.pretrained:
            self.backbone.take(read_backbone_weights(self.config.backbone))

    def forward_guided(self, image: Tensor) -> Guided:
        """Return the logits of all eight heads, and what the guided losses compare.

        Parameters
        ----------
        image : tensor (b, context * c, i, j)
        """
        padded = pad_to_multiple(image, _STRIDE)
        found: Guided = self.head(self.backbone(padded))
        return found._replace(logits=[cut_to(_resize(x, padded.shape[2:]), image.shape[2:]) for x in found.logits])

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of the logits of the second stage's four heads."""
        if x.ndim == 5:
            return through_slices(self, x, self.config.context)
        return torch.stack(self.forward_guided(x).logits[_SCALES:]).mean(dim=0)


def _resize(x: Tensor, size: Any) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _as_published(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_normal_(module.weight)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
