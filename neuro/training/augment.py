"""The augmented pictures that the low-level branch's second teacher sees."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as draw

from voxelight.models.diffusion.noise import stage_generator

SIDE = 224
AREA = 0.9


def augment_picture(picture: Tensor, key: str, copy: int) -> Tensor:
    """Return a picture coloured and cut at random, the same for one key and copy.

    As published (Scotti et al. 2024, released code): colours changed with probability 0.8 (brightness and contrast by
    up to 0.4, saturation 0.2, hue 0.1, in random order), grey with 0.1, solarised with 0.1, and a square of 0.9 of the
    area cut and brought to 224 pixels.

    Parameters
    ----------
    picture : tensor (3, h, w) in [0, 1]
    key : of the picture
    copy : number of the draw

    Returns
    -------
    tensor (3, 224, 224) in [0, 1]
    """
    rng = stage_generator(copy, f"augment:{key}")
    if rng.random() < 0.8:
        factors = [1 + rng.uniform(-0.4, 0.4), 1 + rng.uniform(-0.4, 0.4), 1 + rng.uniform(-0.2, 0.2)]
        hue = rng.uniform(-0.1, 0.1)
        changes = [
            lambda x: draw.adjust_brightness(x, factors[0]),
            lambda x: draw.adjust_contrast(x, factors[1]),
            lambda x: draw.adjust_saturation(x, factors[2]),
            lambda x: draw.adjust_hue(x, hue),
        ]
        for number in rng.permutation(len(changes)):
            picture = changes[number](picture)
    if rng.random() < 0.1:
        picture = draw.rgb_to_grayscale(picture, num_output_channels=3)
    if rng.random() < 0.1:
        picture = draw.solarize(picture, 0.5)
    height, width = picture.shape[-2:]
    side = min(height, width, round((AREA * height * width) ** 0.5))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    cut = draw.resized_crop(picture, top, left, side, side, [SIDE, SIDE], antialias=False)
    return cast(Tensor, cut.clamp(0, 1))


def augment_pictures(pictures: Tensor, keys: Sequence[str], copy: int) -> Tensor:
    """Return pictures (b, 3, h, w) augmented, each by its key; see `augment_picture`."""
    pairs = zip(pictures, keys, strict=True)
    return torch.stack([augment_picture(picture, key, copy) for picture, key in pairs])


def augmented(teacher: Callable[[Tensor], Tensor], copy: int) -> Callable[[Tensor, Sequence[str]], Tensor]:
    """Return what computes a teacher's targets of augmented pictures, for one table of them.

    Parameters
    ----------
    teacher : pictures (b, 3, 224, 224) -> targets (b, ...)
    copy : number of the table
    """
    return lambda pictures, keys: teacher(augment_pictures(pictures, keys, copy))
