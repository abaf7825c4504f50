"""What a step of a segmentation training sees. Its draws hang on the seed and the step alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F

from voxelight.medseg.augment import Chance, augment, reach_of
from voxelight.medseg.cases import Case
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.recipes.training import Training
from voxelight.medseg.transforms import choose_grid, normalise, resample
from voxelight.models.diffusion.noise import stage_generator
from voxelight.models.errors import BadInput
from voxelight.models.training import processes

_KEPT = 10_000  # voxels of a label that a crop may be centred on
_LARGEST = 2**63
_HARDLY = 1.25


@dataclass(frozen=True, eq=False)
class Sample:
    """A case on the grid of the network.

    Parameters
    ----------
    name : of the case
    image : array (c, i, j, k), float32, normalised
    labels : array (i, j, k), uint8
    foreground : array (n, 3) for each label that is there: some of its voxels
    """

    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    foreground: tuple[NDArray[np.int32], ...]


def prepare_sample(case: Case, recipe: SegmentationRecipe) -> Sample:
    """Bring a case to the grid and the intensities that a recipe's network reads.

    Raises
    ------
    BadInput
        It holds labels that the recipe does not declare, or has another number of channels.
    """
    _refuse_strangers(case, recipe)
    grid = choose_grid(case.volume.array, case.volume.geometry, recipe)
    image = normalise(resample(case.volume.array, case.volume.geometry, grid, bool(recipe.shape)), recipe.normalisation)
    labels = case.labels.array.astype(np.uint8)
    if grid is not case.volume.geometry:
        numbers = range(len(recipe.labels) + 1)
        shares = np.stack([labels == number for number in numbers]).astype(np.float32)
        labels = resample(shares, case.volume.geometry, grid).argmax(axis=0).astype(np.uint8)
    rng = stage_generator(recipe.seed, f"foreground:{case.name}")
    return Sample(case.name, image, labels, tuple(_find_voxels(labels, number, rng) for number in recipe.labels))


def _find_voxels(labels: NDArray[np.uint8], number: int, rng: np.random.Generator) -> NDArray[np.int32]:
    places = np.flatnonzero(labels == number)
    if len(places) > _KEPT:
        places = np.sort(rng.choice(places, _KEPT, replace=False))
    found: NDArray[np.int32] = np.stack(np.unravel_index(places, labels.shape), axis=-1).astype(np.int32)
    return found


def _refuse_strangers(case: Case, recipe: SegmentationRecipe) -> None:
    unknown = sorted(set(np.unique(case.labels.array).tolist()) - {0, *recipe.labels})
    if unknown:
        raise BadInput(
            f"label {unknown[0]} in {case.name}", f"one of {', '.join(map(str, sorted({0, *recipe.labels})))}",
            "Declare it under [labels] in the recipe, or correct the label map.",
        )  # fmt: skip
    channels = recipe.config.get("in_channels", 1)
    if case.volume.array.shape[0] != channels:
        raise BadInput(f"{case.volume.array.shape[0]} channels in {case.name}", f"{channels}, as the recipe says",
                       "Correct `in_channels` in the recipe, or leave the case out.")  # fmt: skip


def _refuse_nothing(samples: Sequence[Sample], recipe: SegmentationRecipe) -> None:
    if not any(len(voxels) for sample in samples for voxels in sample.foreground):
        raise BadInput(
            f"{len(samples)} cases to train on without a voxel of any label",
            f"{', '.join(f'{number} ({name})' for number, name in recipe.labels.items())} in one case at least",
            "Check the label maps, and which values stand for which label.",
        )


def _list_members(recipe: SegmentationRecipe) -> Tensor | None:
    """Return which labels are in which region, tensor (region, label), background first; None without regions."""
    if not recipe.label_regions:
        return None
    numbers = range(len(recipe.labels) + 1)
    return torch.tensor([[float(number in region.labels) for number in numbers] for region in recipe.label_regions])


class Dealer:
    """Deals augmented crops, every case as often as any other.

    Parameters
    ----------
    samples : to train on; cases without any label are good, as long as one case has one
    recipe, training : what a crop is
    device : where crops are augmented

    Raises
    ------
    BadInput
        No case holds a label, so that there is nothing to learn.
    """

    def __init__(
        self, samples: Sequence[Sample], recipe: SegmentationRecipe, training: Training, device: str | torch.device
    ) -> None:
        _refuse_nothing(samples, recipe)
        self._samples, self._recipe, self._training, self._device = samples, recipe, training, torch.device(device)
        each = processes.share(training.batch)
        self._own = slice(processes.rank() * each, (processes.rank() + 1) * each)
        self._flat = training.window[2] == 1
        self._context = recipe.context if self._flat else 1
        self._members = _list_members(recipe)
        window, shift = np.array(training.window), training.augmentation.shift
        largest = np.max([sample.labels.shape for sample in samples], axis=0)
        # Where cases are hardly larger than a window, they stay on the device, each read about its centre.
        self._central = np.where(window == 1, 1, _HARDLY * window + 2 * shift)
        self._resident = bool((largest <= self._central).all())
        self._sides = largest if self._resident else np.array(reach_of(training.window, training.augmentation))
        self._on_device = self._stack(range(len(samples))) if self._resident else None
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def sha256(self) -> str:
        """Return the hash of what is trained on."""
        told = hashlib.sha256()
        for sample in self._samples:
            told.update(sample.name.encode() + b"\0")
            told.update(np.ascontiguousarray(sample.image).tobytes())
            told.update(np.ascontiguousarray(sample.labels).tobytes())
        return told.hexdigest()

    def read(self, number: int) -> tuple[Tensor, Tensor] | None:
        """Cut the crops of a step out of cases that lie in memory; None where they are on the device already.

        Returns
        -------
        images : tensor (b, c, i, j, k), NaN where a case does not reach; (b, context * c, i, j, 1) of slices in context
        labels : uint8 tensor (b, i, j, k)
        """
        if self._resident:
            return None
        rows = self._rows(number)
        draws = stage_generator(self._recipe.seed, f"crop:{number}").random((self._training.batch, 6))[self._own]
        places = [self._choose(self._samples[row], chance) for row, chance in zip(rows, draws, strict=True)]
        pairs = [self._cut(self._samples[row], place) for row, place in zip(rows, places, strict=True)]
        images, labels = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
        if self._device.type == "cuda":
            return images.pin_memory(), labels.pin_memory()
        return images, labels

    def place(self, read: tuple[Tensor, Tensor] | None, number: int) -> tuple[Tensor, Tensor]:
        """Return the augmented crops of a step, on the device.

        Returns
        -------
        images : tensor (b, c, i, j[, k])
        reference : share of each label, or of each region where the recipe has those, tensor (b, label, i, j[, k])
        """
        if self._on_device is not None:
            rows = torch.tensor(self._rows(number), device=self._device)
            images, labels = (tensor[rows] for tensor in self._on_device)
        else:
            assert read is not None
            images, labels = (tensor.to(self._device, non_blocking=True) for tensor in read)
        one_hot = F.one_hot(labels.long(), len(self._recipe.labels) + 1).movedim(-1, 1)
        seed = int(stage_generator(self._recipe.seed, f"augment:{number}").integers(_LARGEST))
        chance = Chance(Generator(self._device).manual_seed(seed), self._training.batch, self._own)
        x, reference = augment(images, one_hot, self._training.window, self._training.augmentation, chance)
        if self._members is not None:
            reference = torch.einsum("rl,bl...->br...", self._members.to(reference), reference)
        if self._flat:
            return x[..., 0], reference[..., 0]
        return x.contiguous(memory_format=torch.channels_last_3d), reference

    def _rows(self, number: int) -> list[int]:
        round_, step = divmod(number, len(self._samples))
        rows: list[int] = self._order(round_)[step][self._own].tolist()
        return rows

    def _draw_order(self, round_: int) -> NDArray[np.intp]:
        """Return the cases of so many steps as there are cases, array (step, sample): each comes a batch of times."""
        rng, cases = stage_generator(self._recipe.seed, f"order:{round_}"), len(self._samples)
        order = np.concatenate([rng.permutation(cases) for _ in range(self._training.batch)])
        return order.reshape(cases, self._training.batch)

    def _choose(self, sample: Sample, chance: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the voxel that a crop is centred on: of a label now and then, else anywhere that it is full."""
        shape, window = np.array(sample.labels.shape), np.array(self._training.window)
        there = [voxels for voxels in sample.foreground if len(voxels)]
        centre = np.floor(window / 2 + chance[:3] * np.maximum(shape - window + 1, 1)).astype(np.intp)
        if there and chance[3] < self._training.foreground:
            voxels = there[int(chance[4] * len(there))]
            centre = voxels[int(chance[5] * len(voxels))].astype(np.intp)
        return np.where(shape <= self._central, shape // 2, np.minimum(centre, shape - 1))

    def _cut(self, sample: Sample, centre: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        channels, depth = sample.image.shape[0], sample.image.shape[3]
        image = np.full((self._context, channels, *self._sides), np.nan, dtype=np.float32)
        labels = np.zeros(tuple(self._sides), dtype=np.uint8)
        start = centre - self._sides // 2
        low, high = np.maximum(start, 0), np.minimum(start + self._sides, sample.labels.shape)
        here = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        there = tuple(slice(int(a), int(b)) for a, b in zip(low - start, high - start, strict=True))
        for step, part in enumerate(image, start=-(self._context // 2)):
            at = np.clip(np.arange(here[2].start, here[2].stop) + step, 0, depth - 1)
            part[(slice(None), *there)] = sample.image[:, here[0], here[1], at]
        labels[there] = sample.labels[here]
        return image.reshape(-1, *image.shape[2:]), labels

    def _stack(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Centre cases in one box on the device."""
        pairs = [self._cut(self._samples[row], np.array(self._samples[row].labels.shape) // 2) for row in rows]
        images, labels = (torch.from_numpy(np.stack(part)).to(self._device) for part in zip(*pairs, strict=True))
        return images, labels
