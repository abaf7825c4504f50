"""A convolutional classifier of the same pictures, which the image-text model learns from; it never ships."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from voxelight.neuro.tiny.augment import augment, mix_pairs
from voxelight.neuro.tiny.descent import Sitting, State, Walk, descend, place
from voxelight.neuro.tiny.recipe import TinyRecipe

MAP_WIDTH = 256


class Teacher(nn.Module):
    """ResNet-18 (He et al. 2016) for small pictures: a 3x3 stem of stride 2 and no pooling after it.

    A vision transformer of the profile's size learns classes badly from 190 pictures each; taught by a network that
    looks at neighbourhoods it learns them better (Touvron et al. 2021; Li et al. 2022, locality guidance).

    Parameters
    ----------
    classes : number of them
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = resnet18(num_classes=classes)
        self.network.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.network.maxpool = nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classes of images and the map of the third level.

        Parameters
        ----------
        images : tensor (b, 3, side, side) in [0, 1]

        Returns
        -------
        logits : float32 tensor (b, class)
        map : tensor (b, 256, side / 8, side / 8)
        """
        net = self.network
        x = (4 * images - 2).to(net.conv1.weight.dtype, memory_format=torch.channels_last)
        x = net.relu(net.bn1(net.conv1(x)))
        third = net.layer3(net.layer2(net.layer1(x)))
        logits = net.fc(net.layer4(third).mean((2, 3)))
        return logits.float(), third


def fit_teacher(pixels: Tensor, labels: Tensor, classes: int, recipe: TinyRecipe, sitting: Sitting) -> State | None:
    """Fit the teacher.

    Parameters
    ----------
    pixels : uint8 tensor (picture, 3, side, side), on the device to compute on
    labels : int64 tensor (picture,)
    classes : number of them
    recipe : options and seed
    sitting : checkpoints, curve and interruption

    Returns
    -------
    state of a `Teacher`; None where it was paused
    """
    stage = recipe.teacher
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        teacher = Teacher(classes)
    place(teacher, pixels.device).to(memory_format=torch.channels_last).train()

    def loss(rows: Tensor, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        x = augment(pixels[rows], stage.augmentation, generator)
        x, targets = mix_pairs(x, F.one_hot(labels[rows], classes).float(), stage.augmentation, generator)
        return F.cross_entropy(teacher(x)[0], targets, label_smoothing=stage.smoothing), {}

    made_by = recipe.made_by("teacher", sitting.pictures)
    return descend(Walk(teacher, len(pixels), loss, stage.descent, recipe.seed, made_by), sitting)


def build_teacher(state: State, classes: int, device: torch.device | str) -> Teacher:
    """Return a fitted teacher, ready to be asked."""
    teacher = Teacher(classes)
    teacher.load_state_dict(state)
    place(teacher, device).to(memory_format=torch.channels_last)
    return teacher.eval().requires_grad_(False)


@torch.inference_mode()
def score_classes(logits: Sequence[Tensor], labels: Tensor) -> float:
    """Return the share of pictures whose largest logit is that of their class.

    Parameters
    ----------
    logits : tensors (b, class), batch after batch
    labels : int64 tensor (picture,)
    """
    return float((torch.cat(list(logits)).argmax(1) == labels).float().mean())
