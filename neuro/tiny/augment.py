"""Random changes of whole batches of pictures, where the batch lies."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from voxelight.neuro.tiny.recipe import Augmentation

# ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


def to_unit_floats(pixels: Tensor) -> Tensor:
    """Return uint8 pictures as float32 in [0, 1]."""
    return pixels.float() / 255


def augment(pixels: Tensor, options: Augmentation, generator: Generator) -> Tensor:
    """Return every picture cut, turned, mirrored and coloured at random.

    Parameters
    ----------
    pixels : uint8 tensor (b, 3, side, side)
    options : strengths; at those of `Augmentation()` pictures are only mirrored, half of them
    generator : on the device of the pixels

    Returns
    -------
    float32 tensor (b, 3, side, side) in [0, 1]
    """
    x = _place(to_unit_floats(pixels), options, generator)
    if options.colour or options.grey:
        x = _colour(x, options, generator)
    if options.erase:
        x = _erase(x, options.erase, generator)
    return x


def mix_pairs(x: Tensor, targets: Tensor, options: Augmentation, generator: Generator) -> tuple[Tensor, Tensor]:
    """Blend each picture with its neighbour in the batch, and their targets alike.

    Half of the blended batches are averaged (Zhang et al. 2018, mixup, shares of Beta(1, 1)), half have a rectangle of
    the neighbour pasted in (Yun et al. 2019, CutMix).

    Parameters
    ----------
    x : tensor (b, 3, side, side)
    targets : tensor (b, class), rows summing to 1
    options : how often
    generator : on the device of x

    Returns
    -------
    pictures, targets
    """
    draws = _uniform(3, generator)
    blended, averaged = draws[0] < options.mix, draws[1] < 0.5
    share = torch.where(averaged, draws[2], 1.0)
    window = _rectangles(1, x.shape[-1], 1 - _uniform(1, generator), generator)
    # 1 where the picture stays: everywhere a share, or everything outside the window.
    stays = torch.where(averaged, share, 1 - window.float())
    stays = torch.where(blended, stays, 1.0)
    kept = stays.mean()
    return stays * x + (1 - stays) * x.roll(1, 0), kept * targets + (1 - kept) * targets.roll(1, 0)


def _uniform(size: int | tuple[int, ...], generator: Generator) -> Tensor:
    shape = (size,) if isinstance(size, int) else size
    return torch.rand(shape, generator=generator, device=generator.device)


def _place(x: Tensor, options: Augmentation, generator: Generator) -> Tensor:
    b = len(x)
    flip = torch.where(_uniform(b, generator) < 0.5, -1.0, 1.0)
    if options.area == 1 and not options.stretch and not options.turn:
        return torch.where(flip[:, None, None, None] < 0, x.flip(3), x)
    side = (options.area + (1 - options.area) * _uniform(b, generator)).sqrt()
    stretch = (options.stretch * (2 * _uniform(b, generator) - 1)).exp().sqrt()
    wide, high = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    angle = math.radians(options.turn) * (2 * _uniform(b, generator) - 1)
    shift = 2 * _uniform((b, 2), generator) - 1
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([flip * wide * cos, -high * sin, shift[:, 0] * (1 - wide)], dim=1),
            torch.stack([flip * wide * sin, high * cos, shift[:, 1] * (1 - high)], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _colour(x: Tensor, options: Augmentation, generator: Generator) -> Tensor:
    b = len(x)
    brightness, contrast, saturation = 1 + options.colour * (2 * _uniform((3, b, 1, 1, 1), generator) - 1)
    saturation = torch.where(_uniform((b, 1, 1, 1), generator) < options.grey, 0.0, saturation)
    luma = (x * x.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    x = luma + saturation * (x - luma)
    middle = luma.mean((2, 3), keepdim=True)
    return torch.clamp((middle + contrast * (x - middle)) * brightness, 0, 1)


def _erase(x: Tensor, share: float, generator: Generator) -> Tensor:
    b = len(x)
    window = _rectangles(b, x.shape[-1], 0.05 + 0.25 * _uniform(b, generator), generator)
    window = window & (_uniform((b, 1, 1, 1), generator) < share)
    return torch.where(window, x.mean((2, 3), keepdim=True), x)


def _rectangles(count: int, side: int, areas: Tensor, generator: Generator) -> Tensor:
    """Return squares of the given areas, as shares, cut off at the border: bool (count, 1, side, side)."""
    half = side * areas.sqrt() / 2
    centre = side * _uniform((2, count), generator)
    place = torch.arange(side, device=generator.device) + 0.5
    rows, columns = ((place - middle[:, None]).abs() < half[:, None] for middle in centre)
    return torch.logical_and(rows[:, None, :, None], columns[:, None, None, :])
