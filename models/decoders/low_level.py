"""The low-level branch of MindEye2: a blurry latent of the image, and maps that only training looks at."""

from collections.abc import Sequence

from diffusers.models.autoencoders.vae import Decoder
from torch import nn

CHANNELS, SIDE = 64, 7
LATENT_CHANNELS = 4


def build_upsampler(widths: Sequence[int]) -> nn.Module:
    """Return the network from (b, 64, 7, 7) to a latent (b, 4, s, s), where s is 7 doubled for every width but one."""
    return Decoder(
        in_channels=CHANNELS,
        out_channels=LATENT_CHANNELS,
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=tuple(widths),
        layers_per_block=1,
    )


def build_maps_projector(width: int) -> nn.Sequential:
    """Return three 1x1 convolutions from (b, 64, 7, 7) to (b, width, 7, 7)."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, width, 1, bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1, bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1),
    )
