"""Random changes to a batch of training crops, on the device that holds them."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from voxelight.medseg.recipes.training import Augmentation

_COARSE = (4, 5, 4)


class Chance(NamedTuple):
    """Draws for some samples of a batch, the same whichever process has them.

    Parameters
    ----------
    generator : source of chance, on the device of the images
    total : samples of the whole batch, all of which are drawn for
    own : of them, those that are here
    """

    generator: Generator
    total: int
    own: slice = slice(None)

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1), tensor (sample, *shape)."""
        return torch.rand(self.total, *shape, generator=self.generator, device=self.generator.device)[self.own]

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, tensor (sample, *shape)."""
        return torch.randn(self.total, *shape, generator=self.generator, device=self.generator.device)[self.own]


def augment(
    images: Tensor, labels: Tensor, window: tuple[int, int, int], options: Augmentation, chance: Chance
) -> tuple[Tensor, Tensor]:
    """Cut a random, distorted window out of the middle of each crop.

    Parameters
    ----------
    images : tensor (b, c, i, j, k), normalised; NaN where a volume does not reach
    labels : tensor (b, label, i, j, k), one-hot
    window : (i, j, k), voxels; where k is 1, nothing leaves its slice
    options : strengths
    chance : draws for these samples

    Returns
    -------
    images : tensor (b, c, *window), zero where a volume does not reach
    labels : tensor (b, label, *window), one-hot
    """
    channels = images.shape[1]
    inside = torch.isfinite(images[:, :1]).float()
    stack = torch.cat([images.nan_to_num(0.0), inside, labels.float()], dim=1)
    grid = _sampling_grid(images, window, options, chance)
    moved = F.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    reach = (moved[:, channels : channels + 1] > 0.5).float()
    chosen = moved[:, channels + 2 :]
    background = 1 - chosen.sum(dim=1, keepdim=True)
    hard = torch.cat([background, chosen], dim=1).argmax(dim=1)
    one_hot = F.one_hot(hard, labels.shape[1]).movedim(-1, 1).float()
    return _change_intensity(moved[:, :channels], options, chance) * reach, one_hot


def reach_of(window: tuple[int, int, int], options: Augmentation) -> tuple[int, int, int]:
    """Return the sides of the crop that a window is read from, however it is turned, zoomed and shifted; voxels."""
    angle = math.radians(min(options.rotation, 45.0))
    widest = (math.cos(angle) + math.sin(angle)) / options.scale[0] * math.exp(options.stretch)
    margin = 2 * (options.shift + 3 * options.bend)
    i, j, k = (math.ceil(max(1, side) * widest + margin) for side in window)
    return (i, j, 1) if window[2] == 1 else (i, j, k)


def _sampling_grid(images: Tensor, window: tuple[int, int, int], options: Augmentation, chance: Chance) -> Tensor:
    """Return where to read each voxel of the windows, tensor (b, *window, 3) in the order k, j, i of `grid_sample`."""
    device = images.device
    sides = torch.tensor(images.shape[2:], device=device, dtype=torch.float32)
    axes = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in window]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    flat = window[2] == 1
    kept = torch.tensor([1.0, 1.0, 0.0 if flat else 1.0], device=device)
    turned = torch.einsum("brc,ijkc->bijkr", _linear_maps(options, chance, flat), offsets)
    shift = options.shift * (2 * chance.uniform(1, 1, 1, 3) - 1) * kept
    bend = options.bend * _smooth_noise(3, window, chance).movedim(1, -1) * kept
    return ((turned + shift + bend) * 2 / sides).flip(-1)


def _linear_maps(options: Augmentation, chance: Chance, flat: bool) -> Tensor:
    """Return rotations times zooms times mirrors, tensor (b, 3, 3); within the slice where it is flat."""
    low, high = (math.log(edge) for edge in options.scale)
    zoom = torch.exp(-(low + (high - low) * chance.uniform(1)) + options.stretch * (2 * chance.uniform(3) - 1))
    turned = chance.uniform(3) < options.mirror
    chosen = torch.tensor([axis in options.mirror_axes for axis in range(3)], device=zoom.device)
    zoom = torch.where(turned & chosen, -zoom, zoom)
    angles = math.radians(options.rotation) * (2 * chance.uniform(3) - 1)
    if flat:
        angles = angles * torch.tensor([0.0, 0.0, 1.0], device=zoom.device)
    return _turns(angles) * zoom[:, None]


def _turns(angles: Tensor) -> Tensor:
    """Return rotations about the axes i, then j, then k, tensor (b, 3, 3), for angles (b, 3) in radians."""
    (ci, cj, ck), (si, sj, sk) = angles.cos().T, angles.sin().T
    zero, one = torch.zeros_like(ci), torch.ones_like(ci)
    about_i = torch.stack([one, zero, zero, zero, ci, -si, zero, si, ci], dim=-1)
    about_j = torch.stack([cj, zero, sj, zero, one, zero, -sj, zero, cj], dim=-1)
    about_k = torch.stack([ck, -sk, zero, sk, ck, zero, zero, zero, one], dim=-1)
    i, j, k = (turn.reshape(-1, 3, 3) for turn in (about_i, about_j, about_k))
    return torch.bmm(torch.bmm(k, j), i)


def _smooth_noise(channels: int, window: tuple[int, int, int], chance: Chance) -> Tensor:
    coarse = chance.normal(channels, *_COARSE)
    return F.interpolate(coarse, size=window, mode="trilinear", align_corners=True)


def _change_intensity(x: Tensor, options: Augmentation, chance: Chance) -> Tensor:
    def draw() -> Tensor:
        return 2 * chance.uniform(1, 1, 1, 1) - 1

    low, high = x.amin((2, 3, 4), keepdim=True), x.amax((2, 3, 4), keepdim=True)
    unit = ((x - low) / (high - low + 1e-6)).clamp(1e-6, 1)
    x = unit ** torch.exp(options.gamma * draw()) * (high - low) + low
    window = (x.shape[2], x.shape[3], x.shape[4])
    x = x * (1 + options.bias * _smooth_noise(1, window, chance))
    x = x * (1 + options.contrast * draw()) + options.brightness * draw()
    return x + options.noise * draw().clamp(0) * chance.normal(*x.shape[1:])
