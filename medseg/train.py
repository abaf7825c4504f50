"""Fit the weights of a recipe: cases in, weights and a report out."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from voxelight.medseg.augment import augment
from voxelight.medseg.cases import Case
from voxelight.medseg.losses import LOSSES, deep_supervision
from voxelight.medseg.recipes.recipe import SegmentationRecipe, Training
from voxelight.medseg.transforms import grid_of_spacing, normalise, resample
from voxelight.models.errors import BadInput
from voxelight.models.registry import SEGMENTERS, find_config

Progress = Callable[[float, dict[str, float]], None]
State = dict[str, Tensor]
Prepared = tuple[NDArray[np.float32], NDArray[np.uint8]]


def build_network(recipe: SegmentationRecipe) -> nn.Module:
    """Return the recipe's network with fresh weights."""
    network: nn.Module = find_config(SEGMENTERS, recipe.network)(**recipe.config).build()
    return network


def fit(cases: Sequence[Case], recipe: SegmentationRecipe, device: str, progress: Progress | None = None) -> State:
    """Fit the recipe's network on all the cases.

    Parameters
    ----------
    cases : images with their labels
    recipe : network, training options and seed
    device : where to compute, ``cpu`` or ``cuda``
    progress : called with the share done and the loss, a hundred times at most

    Returns
    -------
    the running mean of the weights, with normalisation statistics of its own, on the CPU

    Raises
    ------
    BadInput
        There is no case, or the recipe can't be trained.
    """
    training = trainable(recipe)
    if not cases:
        raise BadInput("no case to train on", "at least one image with labels", "Check the folder.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build_network(recipe)
    network.to(device).to(memory_format=torch.channels_last_3d).train()
    crops = _crops([_prepare(case, recipe) for case in cases], recipe, training, device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        network.load_state_dict(_descend(network, crops, training, progress))
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=device != "cpu"):
            # The mean of many weights has seen no crop yet, so neither have its statistics.
            update_bn((x for x, _ in islice(crops, training.settling)), network)
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}


def _descend(
    network: nn.Module, crops: Iterator[tuple[Tensor, Tensor]], training: Training, progress: Progress | None
) -> State:
    """Take the gradient steps; return the running mean of the weights."""
    state = network.state_dict()
    mean = {name: value.clone() for name, value in state.items()}
    floats = [name for name, value in state.items() if value.is_floating_point()]
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, training))
    for step, (x, reference) in enumerate(islice(crops, training.steps), start=1):
        loss = _loss(network, x, reference, training)
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        decay = min(training.average, step / (9 + step))
        torch._foreach_lerp_([mean[name] for name in floats], [state[name] for name in floats], 1 - decay)
        if progress is not None and step % max(1, training.steps // 100) == 0:
            progress(step / training.steps, {"loss": float(loss.detach())})
    return mean


def trainable(recipe: SegmentationRecipe) -> Training:
    """Return the training options of a recipe that has them.

    Raises
    ------
    BadInput
        The recipe borrows the weights of another, or names an unknown loss.
    """
    if recipe.training is None:
        raise BadInput(f"recipe {recipe.name}, which has no training options", "a recipe with its own weights",
                       f"Train {recipe.weights}, whose weights it uses.")  # fmt: skip
    if recipe.training.loss not in LOSSES:
        raise BadInput(f"the loss {recipe.training.loss!r}", f"one of {', '.join(LOSSES)}", "Correct the recipe.")
    return recipe.training


def _loss(network: nn.Module, x: Tensor, reference: Tensor, training: Training) -> Tensor:
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=x.is_cuda):
        levels = network.forward_levels(x)  # type: ignore[operator]
    return deep_supervision(LOSSES[training.loss], levels, reference, training.level_decay)


def _rate(step: int, training: Training) -> float:
    rise = min(1.0, (step + 1) / (training.warm_up + 1))
    return rise * 0.5 * (1 + float(np.cos(np.pi * min(1.0, step / training.steps))))


def _crops(
    prepared: Sequence[Prepared], recipe: SegmentationRecipe, training: Training, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Deal augmented crops without end, every case equally often."""
    images, labels = (tensor.to(device) for tensor in _stack(prepared))
    chance = Generator(device).manual_seed(recipe.seed)
    for rows in _rows(len(prepared), training.batch, recipe.seed, device):
        one_hot = F.one_hot(labels[rows].long(), len(recipe.labels) + 1).movedim(-1, 1)
        x, reference = augment(images[rows], one_hot, training.window, training.augmentation, chance)
        yield x.contiguous(memory_format=torch.channels_last_3d), reference


def _rows(cases: int, batch: int, seed: int, device: str) -> Iterator[Tensor]:
    chance = np.random.default_rng(seed)
    while True:
        order = np.concatenate([chance.permutation(cases) for _ in range(batch)])
        yield from torch.from_numpy(order.reshape(cases, batch)).to(device)


def _prepare(case: Case, recipe: SegmentationRecipe) -> Prepared:
    grid = grid_of_spacing(case.volume.geometry, recipe.spacing_mm)
    image = normalise(resample(case.volume.array, case.volume.geometry, grid), recipe.normalisation)
    if grid is case.volume.geometry:
        return image, case.labels.array.astype(np.uint8)
    numbers = range(len(recipe.labels) + 1)
    shares = np.stack([case.labels.array == number for number in numbers]).astype(np.float32)
    return image, resample(shares, case.volume.geometry, grid).argmax(axis=0).astype(np.uint8)


def _stack(prepared: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
    """Centre the cases in one box: images (case, c, i, j, k), NaN beyond a case, and labels (case, i, j, k)."""
    box = np.max([labels.shape for _, labels in prepared], axis=0)
    channels = prepared[0][0].shape[0]
    images = np.full((len(prepared), channels, *box), np.nan, dtype=np.float32)
    labels = np.zeros((len(prepared), *box), dtype=np.uint8)
    for row, (image, label) in enumerate(prepared):
        start = (box - label.shape) // 2
        i, j, k = (slice(s, s + n) for s, n in zip(start, label.shape, strict=True))
        images[row, :, i, j, k] = image
        labels[row, i, j, k] = label
    return torch.from_numpy(images), torch.from_numpy(labels)
