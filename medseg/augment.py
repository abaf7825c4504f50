"""Random changes to a batch of training crops, on the device that holds them."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from voxelight.medseg.recipes.recipe import Augmentation

_COARSE = (4, 5, 4)


def augment(
    images: Tensor, labels: Tensor, window: tuple[int, int, int], options: Augmentation, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Cut a random, distorted window out of each volume.

    Parameters
    ----------
    images : tensor (b, c, i, j, k), normalised; NaN where a volume does not reach
    labels : tensor (b, label, i, j, k), one-hot
    window : (i, j, k), voxels
    options : strengths
    generator : source of chance, on the device of the images

    Returns
    -------
    images : tensor (b, c, *window), zero where a volume does not reach
    labels : tensor (b, label, *window), one-hot
    """
    channels = images.shape[1]
    inside = torch.isfinite(images[:, :1]).float()
    stack = torch.cat([images.nan_to_num(0.0), inside, labels.float()], dim=1)
    grid = _sampling_grid(images, window, options, generator)
    moved = F.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    reach = (moved[:, channels : channels + 1] > 0.5).float()
    chosen = moved[:, channels + 2 :]
    background = 1 - chosen.sum(dim=1, keepdim=True)
    hard = torch.cat([background, chosen], dim=1).argmax(dim=1)
    one_hot = F.one_hot(hard, labels.shape[1]).movedim(-1, 1).float()
    return _change_intensity(moved[:, :channels], options, generator) * reach, one_hot


def _sampling_grid(images: Tensor, window: tuple[int, int, int], options: Augmentation, generator: Generator) -> Tensor:
    """Return where to read each voxel of the windows, tensor (b, *window, 3) in the order k, j, i of `grid_sample`."""
    batch, device = images.shape[0], images.device
    sides = torch.tensor(images.shape[2:], device=device, dtype=torch.float32)
    axes = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in window]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    turned = torch.einsum("brc,ijkc->bijkr", _linear_maps(batch, options, generator), offsets)
    shift = options.shift * (2 * torch.rand(batch, 1, 1, 1, 3, generator=generator, device=device) - 1)
    bend = options.bend * _smooth_noise(batch, 3, window, generator).movedim(1, -1)
    return ((turned + shift + bend) * 2 / sides).flip(-1)


def _linear_maps(batch: int, options: Augmentation, generator: Generator) -> Tensor:
    """Return rotations times zooms times mirrors, tensor (b, 3, 3)."""

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device)

    low, high = (math.log(edge) for edge in options.scale)
    zoom = torch.exp(-(low + (high - low) * draw(batch, 1)) + options.stretch * (2 * draw(batch, 3) - 1))
    mirror = 1 - 2 * (draw(batch, 1) < options.mirror).float()
    zoom = zoom * torch.cat([mirror, torch.ones_like(mirror), torch.ones_like(mirror)], dim=1)
    angles = math.radians(options.rotation) * (2 * draw(batch, 3) - 1)
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


def _smooth_noise(batch: int, channels: int, window: tuple[int, int, int], generator: Generator) -> Tensor:
    coarse = torch.randn(batch, channels, *_COARSE, generator=generator, device=generator.device)
    return F.interpolate(coarse, size=window, mode="trilinear", align_corners=True)


def _change_intensity(x: Tensor, options: Augmentation, generator: Generator) -> Tensor:
    def draw() -> Tensor:
        shape = (x.shape[0], 1, 1, 1, 1)
        return 2 * torch.rand(shape, generator=generator, device=generator.device) - 1

    low, high = x.amin((2, 3, 4), keepdim=True), x.amax((2, 3, 4), keepdim=True)
    unit = ((x - low) / (high - low + 1e-6)).clamp(1e-6, 1)
    x = unit ** torch.exp(options.gamma * draw()) * (high - low) + low
    window = (x.shape[2], x.shape[3], x.shape[4])
    x = x * (1 + options.bias * _smooth_noise(x.shape[0], 1, window, generator))
    x = x * (1 + options.contrast * draw()) + options.brightness * draw()
    noise = torch.randn(x.shape, generator=generator, device=generator.device)
    return x + options.noise * draw().clamp(0) * noise
