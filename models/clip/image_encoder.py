"""Images to the CLIP tokens that MindEye2 predicts: OpenCLIP's vision transformer (Ilharco et al. 2021)."""

from typing import cast

import torch
from open_clip.transformer import VisionTransformer
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.errors import BadInput

# Per channel, red to blue, of images in [0, 1]: Radford et al. 2021.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoderConfig(BaseModel):
    """Sizes of the vision transformer; those of ViT-bigG-14 by default.

    Parameters
    ----------
    width, layers, head_width, mlp_ratio : of the transformer; ``width * mlp_ratio`` is rounded down
    patch, side : pixels of one side of a patch and of the square image that the transformer sees
    output_dim : length of the pooled embedding
    washed_out : map the images by ``(x + 1) / 2`` before they are normalised. MindEye2 was trained on tokens of images
        in [0, 1] that went through this map, meant for [-1, 1], so its targets show images in [0.5, 1]. Keep it on for
        every token that meets MindEye2's; turn it off for the tokens that OpenCLIP itself gives
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: PositiveInt = 1664
    layers: PositiveInt = 48
    head_width: PositiveInt = 104
    mlp_ratio: PositiveFloat = 4.9231
    patch: PositiveInt = 14
    side: PositiveInt = Field(224, ge=2)
    output_dim: PositiveInt = 1280
    washed_out: bool = True

    @model_validator(mode="after")
    def _divides(self) -> "ImageEncoderConfig":
        if self.width % self.head_width:
            raise ValueError(f"width {self.width} is no multiple of head_width {self.head_width}")
        if self.side % self.patch:
            raise ValueError(f"side {self.side} is no multiple of patch {self.patch}")
        return self

    @property
    def tokens(self) -> int:
        """Tokens of one image, the class token not counted."""
        return (self.side // self.patch) ** 2

    def build(self) -> "ClipImageEncoder":
        """Return the encoder with fresh weights."""
        return ClipImageEncoder(self)


class ClipImageEncoder(nn.Module):
    """Images to tokens: the last layer after its norm, not projected, without the class token.

    The keys are those of the published checkpoint, ``visual.*``.
    """

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTransformer(
            image_size=config.side,
            patch_size=config.patch,
            width=config.width,
            layers=config.layers,
            heads=config.width // config.head_width,
            mlp_ratio=config.mlp_ratio,
            output_dim=config.output_dim,
            output_tokens=True,
        )

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens and pooled embedding; see `forward`.

        Parameters
        ----------
        images : tensor (b, 3, h, w) in [0, 1], of any floating type

        Returns
        -------
        tokens : tensor (b, token, width)
        pooled : tensor (b, output_dim)
            The class token, projected, not normalised.

        Raises
        ------
        BadInput
            The images have another shape or whole numbers.
        """
        pixels = prepare_pixels(images, self.config.side, self.config.washed_out)
        pooled, tokens = self.visual(pixels.to(self.visual.conv1.weight.dtype))
        return cast(Tensor, tokens), cast(Tensor, pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens of images.

        Parameters
        ----------
        images : tensor (b, 3, h, w) in [0, 1], of any floating type

        Returns
        -------
        tensor (b, token, width)

        Raises
        ------
        BadInput
            The images have another shape or whole numbers.
        """
        return self.embed(images)[0]


def prepare_pixels(images: Tensor, side: int, washed_out: bool) -> Tensor:
    r"""Return images as the transformer takes them, in float32.

    .. math:: (\tfrac{1 + x}{2} - \mu) / \sigma \quad \text{(washed out)}, \qquad (x - \mu) / \sigma \quad \text{(else)}

    Parameters
    ----------
    images : tensor (b, 3, h, w) in [0, 1]
    side : pixels of one side of the result
    washed_out : see `ImageEncoderConfig`

    Returns
    -------
    tensor (b, 3, side, side)

    Raises
    ------
    BadInput
        The images have another shape or whole numbers.
    """
    check_images(images)
    x = resize_bicubic(images.float(), side)
    return normalise((x + 1) / 2 if washed_out else x)


def check_images(images: Tensor) -> None:
    """Refuse images that are not (b, 3, h, w) and floating.

    Raises
    ------
    BadInput
        The images have another shape or whole numbers.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise BadInput(
            f"images of shape {tuple(images.shape)} and type {images.dtype}",
            "(b, 3, h, w), floating, in [0, 1]",
            "Divide 8-bit images by 255 and put the colours on the second axis.",
        )


def normalise(images: Tensor) -> Tensor:
    """Return images (b, 3, h, w) in [0, 1] less CLIP's mean, over its standard deviation, channel by channel."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


def resize_bicubic(images: Tensor, side: int) -> Tensor:
    r"""Resize to a square as the published embedder does: blur where the image shrinks, then bicubic, corners aligned.

    Along an axis :math:`f > 1` times as long as the result, the blur is a Gaussian of
    :math:`\sigma = \max((f - 1) / 2, 10^{-3})` over :math:`\lfloor\max(4\sigma, 3)\rfloor` pixels, one more if even,
    and mirrored at the border: what kornia's ``resize`` calls ``antialias``.

    Parameters
    ----------
    images : tensor (b, c, h, w), floating
    side : pixels of one side of the result

    Returns
    -------
    tensor (b, c, side, side)
    """
    for axis in (2, 3):
        if images.shape[axis] > side:
            images = _blur(images, axis, max((images.shape[axis] / side - 1) / 2, 1e-3))
    return F.interpolate(images, size=(side, side), mode="bicubic", align_corners=True)


def _blur(images: Tensor, axis: int, sigma: float) -> Tensor:
    """Return images (b, c, h, w) after a Gaussian along one axis."""
    radius = int(max(4 * sigma, 3)) // 2
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weights = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=0)
    padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
    kernel = weights.view((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)).repeat(images.shape[1], 1, 1, 1)
    return F.conv2d(F.pad(images, padding, mode="reflect"), kernel, groups=images.shape[1])
