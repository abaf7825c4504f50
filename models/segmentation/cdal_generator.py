"""The generator of cDAL: NCSN++ with adaptive normalisation by a latent and an encoder of the image."""

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.segmentation.attention import attend
from voxelight.models.segmentation.cdal_diffusion import time_embedding
from voxelight.models.segmentation.fir import DownConv, downsample, upsample

_NORM_EPS = 1e-6
_ALMOST_ZERO = 1e-5
_HALF = math.sqrt(2)


@dataclass(frozen=True)
class GeneratorSizes:
    """What a generator is made of.

    Parameters
    ----------
    image_channels, label_channels : of what it sees and makes
    width : channels of the finest level
    multipliers : of the width at each level, finest first
    blocks : residual blocks of a level on the way down; one more on the way up
    attention_levels : levels with self-attention, 0 the finest
    encoder_blocks : residual blocks of the encoder of the image
    latent, embedding, mapping_layers : numbers of the latent, what it is mapped to, by how many layers
    dropout : share of activations dropped
    """

    image_channels: int
    label_channels: int
    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention_levels: tuple[int, ...]
    encoder_blocks: int
    latent: int
    embedding: int
    mapping_layers: int
    dropout: float = 0.0


def conv(inputs: int, outputs: int, kernel: int = 3, scale: float = 1.0) -> nn.Conv2d:
    """Return a convolution that starts at random (Glorot and Bengio 2010), scaled, without bias at first."""
    made = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(made.weight, gain=scale)
    nn.init.zeros_(made.bias)  # type: ignore[arg-type]
    return made


def groups_of(channels: int) -> int:
    """Return how many groups a normalisation has."""
    return min(max(1, channels // 4), 32)


class PixelNorm(nn.Module):
    """Divide a latent by its root mean square."""

    def forward(self, z: Tensor) -> Tensor:
        """Return a tensor of the shape of z, (b, n)."""
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


def mapping_network(latent: int, embedding: int, layers: int) -> nn.Sequential:
    """Return what maps a latent (b, latent) to the embedding (b, embedding) that normalisations read."""
    made: list[nn.Module] = [PixelNorm(), nn.Linear(latent, embedding), nn.SiLU()]
    for _ in range(layers):
        made += [nn.Linear(embedding, embedding), nn.SiLU()]
    return nn.Sequential(*made)


class AdaptiveNorm(nn.Module):
    """Group normalisation whose scale and shift come from the latent."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups_of(channels), channels, eps=_NORM_EPS, affine=False)
        self.style = nn.Linear(embedding, 2 * channels)
        with torch.no_grad():
            self.style.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return features of the shape of x (b, c, i, j) for an embedded latent (b, embedding)."""
        scale, shift = self.style(z)[:, :, None, None].chunk(2, dim=1)
        return cast(Tensor, scale * self.norm(x) + shift)


class ResidualBlock(nn.Module):
    """Two convolutions that know time and latent, with a way around (Song et al. 2021, BigGAN type).

    Parameters
    ----------
    inputs, outputs : channels
    time, embedding : numbers of embedded time and latent
    resample : ``up`` and ``down`` double and halve the grid
    dropout : share of activations dropped
    """

    def __init__(
        self, channels: tuple[int, int], time: int, embedding: int,
        resample: Literal["up", "down"] | None = None, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        inputs, outputs = channels
        self.resample = resample
        self.norm1, self.conv1 = AdaptiveNorm(inputs, embedding), conv(inputs, outputs)
        self.time = nn.Linear(time, outputs)
        nn.init.xavier_uniform_(self.time.weight)
        nn.init.zeros_(self.time.bias)
        self.norm2, self.conv2 = AdaptiveNorm(outputs, embedding), conv(outputs, outputs, scale=_ALMOST_ZERO)
        self.drop = nn.Dropout(dropout)
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs or resample else None

    def forward(self, x: Tensor, time: Tensor, z: Tensor) -> Tensor:
        """Return features (b, outputs, ...) from features x, embedded time (b, time) and latent (b, embedding)."""
        h = F.silu(self.norm1(x, z))
        if self.resample is not None:
            change = upsample if self.resample == "up" else downsample
            h, x = change(h), change(x)
        h = self.conv1(h) + self.time(F.silu(time))[:, :, None, None]
        h = self.conv2(self.drop(F.silu(self.norm2(h, z))))
        return cast(Tensor, ((x if self.shortcut is None else self.shortcut(x)) + h) / _HALF)


class SelfAttention(nn.Module):
    """Every pixel sees every other, one head, with a way around."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups_of(channels), channels, eps=_NORM_EPS)
        self.query, self.key, self.value = (conv(channels, channels, 1, math.sqrt(0.1)) for _ in range(3))
        self.out = conv(channels, channels, 1, _ALMOST_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of x, (b, c, i, j)."""
        h = self.norm(x)
        q, k, v = (project(h).flatten(2).transpose(1, 2) for project in (self.query, self.key, self.value))
        found = attend(q, k, v, scale=x.shape[1] ** -0.5).transpose(1, 2).reshape(x.shape)
        return cast(Tensor, (x + self.out(found)) / _HALF)


class EncoderBlock(nn.Module):
    """A residual block of the image's encoder, which knows neither time nor latent."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = math.gcd(32, channels)  # published: 32, with widths that are multiples of it
        self.norm1, self.conv1 = nn.GroupNorm(groups, channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, channels), conv(channels, channels, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of x, (b, c, i, j)."""
        return cast(Tensor, x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x)))))))


class Down(nn.Module):
    """A level on the way down."""

    def __init__(self, sizes: GeneratorSizes, level: int, inputs: int, pyramid: int) -> None:
        super().__init__()
        width = sizes.width * sizes.multipliers[level]
        time = 4 * sizes.width
        self.blocks = nn.ModuleList(
            ResidualBlock((inputs if n == 0 else width, width), time, sizes.embedding, dropout=sizes.dropout)
            for n in range(sizes.blocks)
        )
        attends = level in sizes.attention_levels
        self.attentions = nn.ModuleList(SelfAttention(width) for _ in range(sizes.blocks if attends else 0))
        last = level == len(sizes.multipliers) - 1
        self.down = None if last else ResidualBlock((width, width), time, sizes.embedding, "down", sizes.dropout)
        self.pyramid = None if last else DownConv(pyramid, width)

    def forward(self, h: Tensor, label: Tensor, time: Tensor, z: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return what the way up will see, the last of it being the features; and the pyramid of the label."""
        kept = []
        for n, block in enumerate(self.blocks):
            h = block(h, time, z)
            h = self.attentions[n](h) if len(self.attentions) else h
            kept.append(h)
        if self.down is not None and self.pyramid is not None:
            # The sum is both: the features that go on, and the pyramid from which the next level is made.
            label = (self.pyramid(label) + self.down(h, time, z)) / _HALF
            kept.append(label)
        return kept, label


class Up(nn.Module):
    """A level on the way up."""

    def __init__(self, sizes: GeneratorSizes, level: int, inputs: int, skips: list[int]) -> None:
        super().__init__()
        width = sizes.width * sizes.multipliers[level]
        time = 4 * sizes.width
        self.blocks = nn.ModuleList(
            ResidualBlock(((inputs if n == 0 else width) + skip, width), time, sizes.embedding, dropout=sizes.dropout)
            for n, skip in enumerate(skips)
        )
        self.attention = SelfAttention(width) if level in sizes.attention_levels else None
        self.up = ResidualBlock((width, width), time, sizes.embedding, "up", sizes.dropout) if level else None

    def forward(self, h: Tensor, skips: list[Tensor], time: Tensor, z: Tensor) -> Tensor:
        """Return the features, on a doubled grid unless this is the finest level; takes its skips off the end."""
        for block in self.blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), time, z)
        h = h if self.attention is None else self.attention(h)
        return h if self.up is None else self.up(h, time, z)


class Generator(nn.Module):
    """Noisy label, step, latent and encoded image -> clean label in [-1, 1]."""

    def __init__(self, sizes: GeneratorSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, levels = sizes.width, len(sizes.multipliers)
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.mapping = mapping_network(sizes.latent, sizes.embedding, sizes.mapping_layers)
        self.look = conv(sizes.image_channels, width)
        self.encoder = nn.Sequential(*(EncoderBlock(width) for _ in range(sizes.encoder_blocks)))
        self.first = conv(sizes.label_channels, width)
        self.downs, skips = nn.ModuleList(), [width]
        inputs, pyramid = width, sizes.label_channels
        for level in range(levels):
            self.downs.append(Down(sizes, level, inputs, pyramid))
            inputs = pyramid = width * sizes.multipliers[level]
            skips += [inputs] * (sizes.blocks + (level < levels - 1))
        middle = (inputs, inputs)
        self.middle1 = ResidualBlock(middle, 4 * width, sizes.embedding, dropout=sizes.dropout)
        self.middle_attention = SelfAttention(inputs)
        self.middle2 = ResidualBlock(middle, 4 * width, sizes.embedding, dropout=sizes.dropout)
        self.ups = nn.ModuleList()
        for level in reversed(range(levels)):
            self.ups.append(Up(sizes, level, inputs, [skips.pop() for _ in range(sizes.blocks + 1)]))
            inputs = width * sizes.multipliers[level]
        self.norm = nn.GroupNorm(groups_of(inputs), inputs, eps=_NORM_EPS)
        self.last = conv(inputs, sizes.label_channels, scale=_ALMOST_ZERO)

    def encode(self, image: Tensor) -> Tensor:
        """Return features (b, width, i, j) of an image (b, c, i, j), the same at every step."""
        return cast(Tensor, self.encoder(self.look(image)))

    def forward(self, x: Tensor, t: Tensor, z: Tensor, condition: Tensor) -> Tensor:
        """Return the clean label.

        Parameters
        ----------
        x : tensor (b, label, i, j), noisy label; sides are multiples of 2^(levels - 1)
        t : tensor (b,), step in 0..T-1
        z : tensor (b, latent)
        condition : tensor (b, width, i, j), of `encode`
        """
        time, latent = self.time(time_embedding(t, self.sizes.width).to(x.dtype)), self.mapping(z)
        h = self.first(x) + condition
        skips, label = [h], x
        for down in self.downs:
            kept, label = down(h, label, time, latent)
            skips += kept
            h = kept[-1]
        h = self.middle2(self.middle_attention(self.middle1(h, time, latent)), time, latent)
        for up in self.ups:
            h = up(h, skips, time, latent)
        return torch.tanh(self.last(F.silu(self.norm(h))))
