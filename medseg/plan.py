"""From the fingerprint of a data set to a recipe that fits a memory budget (Isensee et al. 2021)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from voxelight.medseg.fingerprint import Fingerprint
from voxelight.medseg.recipes.recipe import LabelRegion, Normalisation, SegmentationRecipe, own_labels
from voxelight.medseg.recipes.training import Augmentation, Training
from voxelight.models.errors import BadInput
from voxelight.models.registry import SEGMENTERS, find_config

_ANISOTROPIC = 3.0  # an axis so much coarser than the others is brought to its 10th percentile
_SMALLEST_SIDE = 4  # voxels of the coarsest level
_MOST_LEVELS, _MOST_FILTERS = 5, 256
_LEAST_BATCH, _MOST_BATCH, _MOST_OF_DATA = 2, 32, 0.05
_WORKSPACE = 1.25  # what kernels take beside what is kept for the way back; an estimate
_STATES = 5 * 4  # bytes a weight: itself, its gradient, two moments, its running mean
_NARROWEST = 8
_EACH_AXIS = {"strides", "pooling"}  # options of networks that halve each axis by itself
_LEAST_LEVELS = 2  # below the finest, of a network whose levels are told one by one
GIB = 1 << 30

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Wishes:
    """What a person may decide about a plan.

    Parameters
    ----------
    name : of the recipe
    network : of the table SEGMENTERS
    labels : number -> name; numbers as names without
    memory_gib : of the card that trains
    dims : 2 for slices, 3 for volumes, None: volumes unless images are flat
    steps : gradient steps
    width : filters of the finest level
    context : slices that a network of slices sees at once, where it can and images are deeper than one
    regions : what a network learns in place of labels, from the outermost region to the innermost
    """

    name: str = "planned"
    network: str = "agunet"
    labels: Mapping[int, str] | None = None
    memory_gib: float = 8.0
    dims: Literal[2, 3] | None = None
    steps: int = 10_000
    width: int = 32
    context: int = 3
    regions: tuple[LabelRegion, ...] = ()


@dataclass(frozen=True)
class PlanOfRecipe:
    """A recipe, and why it is as it is.

    Parameters
    ----------
    recipe : to train by
    reasons : field -> words, for the comments of a file
    memory_gib : what a step is estimated to take
    """

    recipe: SegmentationRecipe
    reasons: Mapping[str, str]
    memory_gib: float


def plan_recipe(found: Fingerprint, wishes: Wishes = Wishes()) -> PlanOfRecipe:
    """Choose grid, window, levels, batch and intensities for a data set.

    Parameters
    ----------
    found : the data set
    wishes : what is decided already

    Raises
    ------
    BadInput
        Labels that are drawn have no name, or not even a small window fits into the memory.
    NotFound
        There is no such network.
    """
    labels = _name_labels(found, wishes)
    spacing, why_spacing = _choose_spacing(found)
    shape = _on_grid(found, spacing)
    of_slices = getattr(find_config(SEGMENTERS, wishes.network), "spatial_dims", 3) == 2
    flat = wishes.dims == 2 or of_slices or (wishes.dims is None and found.shape[2] == 1)
    _refuse_regions(wishes.regions, labels)
    classes = len(wishes.regions) or len(labels) + 1
    window, config, memory = _fit_memory(found, wishes, (shape, spacing), flat, classes)
    batch, memory = _choose_batch(found, wishes, window, config, shape, memory)
    sided = any(word in name.lower().split() for name in labels.values() for word in ("left", "right"))
    norm, why_norm = _choose_normalisation(found)
    recipe = SegmentationRecipe(
        name=wishes.name,
        title=f"{', '.join(labels.values())}: planned from {found.cases} cases",
        summary=f"Planned for images of {found.channels} channels like those of its data set. Not for clinical use.",
        network=wishes.network,
        config=config,
        weights=wishes.name,
        labels=labels,
        label_regions=wishes.regions,
        spacing_mm=spacing,
        normalisation=norm,
        patch=window,
        overlap=0.5,
        mirror_average=not sided,
        training=_plan_training(found, wishes, window, batch, sided),
    )
    reasons = {
        "network": f"levels halve the grid until a side is {_SMALLEST_SIDE} voxels, at most {_MOST_LEVELS} times"
        + (", a coarser axis later than the others" if _EACH_AXIS & config.keys() else ""),
        "spacing_mm": why_spacing,
        "patch": f"the median case has {' x '.join(map(str, shape))} voxels at this spacing; cut along its longest side"
        f" until a step fits into {wishes.memory_gib:g} GiB (estimated: {memory:.2g} GiB)",
        "batch": f"as many as fit, at least {_LEAST_BATCH} and at most {_MOST_OF_DATA:.0%} of all voxels",
        "normalisation": why_norm,
        "augmentation": "a label is named left or right, so nothing is mirrored" if sided else "mirrored left to right",
        "validation": "this share of the persons is looked at and not trained on",
    }
    return PlanOfRecipe(recipe, reasons, memory)


def _plan_training(found: Fingerprint, wishes: Wishes, window: Triple, batch: int, sided: bool) -> Training:
    return Training(
        steps=wishes.steps,
        batch=batch,
        window=window,
        learning_rate=1e-3,
        clip=12.0,
        validation=0.1 if found.cases >= 10 else 0.0,
        validate_steps=max(1, wishes.steps // 20),
        average=0.995,
        loss="dice_ce_regions" if wishes.regions else "dice_ce",
        settling=min(100, wishes.steps),
        augmentation=Augmentation(mirror=0.0 if sided else 0.5, mirror_axes=(0,)),
    )


def estimate_memory(network: str, config: Mapping[str, Any], window: Triple, batch: int, half: bool = True) -> float:
    """Return about what a gradient step takes on a card, in GiB.

    The network goes through a window of torch's fake tensors, of which shapes alone are computed, and what is kept for
    the way back is summed.

    Parameters
    ----------
    network, config : a name of the table SEGMENTERS and its options
    window, batch : voxels and samples of a step
    half : whether layers are computed in half precision
    """
    built: nn.Module = find_config(SEGMENTERS, network)(**config).build().train()
    sides = window[: getattr(built.config, "spatial_dims", 3)]
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.numel() * tensor.element_size()
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        weights = {fake.from_tensor(each).untyped_storage()._cdata for each in built.parameters()}
        image = torch.empty(batch, config.get("in_channels", 1) * config.get("context", 1), *sides)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            find: Callable[[Tensor], Sequence[Tensor]] | None = getattr(built, "forward_levels", None)
            levels = [built(image)] if find is None else find(image)
    saved = sum(size for place, size in kept.items() if place not in weights)
    logits = sum(level.numel() for level in levels) * 4 * 4  # softmax and loss, in single precision
    states = sum(parameter.numel() for parameter in built.parameters()) * _STATES
    return float((saved * (0.5 if half else 1.0) * _WORKSPACE + logits + states) / GIB)


def _name_labels(found: Fingerprint, wishes: Wishes) -> dict[int, str]:
    labels = dict(wishes.labels) if wishes.labels else {number: f"label {number}" for number in found.labels}
    unnamed = sorted(set(found.labels) - set(labels))
    if unnamed:
        raise BadInput(f"label {unnamed[0]} in {found.labels[unnamed[0]]} cases, which has no name",
                       f"one of {', '.join(map(str, labels))}", "Name every label that is drawn.")  # fmt: skip
    if sorted(labels) != list(range(1, len(labels) + 1)):
        raise BadInput(f"labels {', '.join(map(str, sorted(labels)))}", "1, 2, 3 ... without a gap",
                       "Renumber the label maps.")  # fmt: skip
    return labels


def _refuse_regions(regions: tuple[LabelRegion, ...], labels: Mapping[int, str]) -> None:
    try:
        held = sorted(own_labels(regions)) if regions else sorted(labels)
    except ValueError as error:
        raise BadInput(str(error), "regions that a label map can be put together of", "Change their order.") from None
    if held != sorted(labels):
        raise BadInput(f"regions of labels {', '.join(map(str, held))}", f"of {', '.join(map(str, sorted(labels)))}",
                       "Put every label into a region.")  # fmt: skip


def _choose_spacing(found: Fingerprint) -> tuple[tuple[float, float, float], str]:
    spacing, shape = np.array(found.spacing), np.array(found.shape)
    coarse = int(spacing.argmax())
    others = np.delete(spacing, coarse).max()
    sides = np.delete(shape, coarse).max()
    if shape[coarse] > 1 and spacing[coarse] > _ANISOTROPIC * others and sides > _ANISOTROPIC * shape[coarse]:
        spacing[coarse] = max(found.coarse_spacing[coarse], others)
        i, j, k = map(float, spacing)
        return (
            i,
            j,
            k,
        ), f"medians, but the 10th percentile along {'ijk'[coarse]}, which is far coarser"
    return found.spacing, "the median of each axis"


def _on_grid(found: Fingerprint, spacing: tuple[float, float, float]) -> Triple:
    i, j, k = (max(1, round(n * old / new)) for n, old, new in zip(found.shape, found.spacing, spacing, strict=True))
    return i, j, k


def _fit_memory(
    found: Fingerprint, wishes: Wishes, grid: tuple[Triple, tuple[float, float, float]], flat: bool, classes: int
) -> tuple[Triple, dict[str, Any], float]:
    """Cut the window until a step of the smallest batch fits."""
    shape, spacing = grid
    window = np.array(shape)
    window[2] = 1 if flat else window[2]
    axes = slice(0, 2 if flat else 3)
    while True:
        pooling = _find_pooling(wishes.network, window[axes].tolist(), list(spacing)[axes])
        rounded = _round(window, pooling, flat)
        config = _choose_config(wishes, found, classes, pooling, flat)
        memory = estimate_memory(wishes.network, config, rounded, _LEAST_BATCH)
        if memory <= wishes.memory_gib:
            return rounded, config, memory
        longest = int((window / np.array(shape)).argmax() if not flat else window[:2].argmax())
        longest = longest if window[longest] > _NARROWEST else int(window.argmax())
        if window[longest] <= _NARROWEST:
            raise BadInput(f"{memory:.2g} GiB for a window of {' x '.join(map(str, rounded))} voxels",
                           f"at most {wishes.memory_gib:g}", "Take a narrower network or more memory.")  # fmt: skip
        share = float(
            np.clip(wishes.memory_gib / memory, 0.6, 0.9)
        )  # of one side, so that the window stays near a cube
        window[longest] = max(_NARROWEST, int(window[longest] * share))


class Pooling(NamedTuple):
    """How a network halves its grid.

    Parameters
    ----------
    strides, kernels : of each level, finest first, for each axis
    own : whether they differ from axis to axis, so that the network has to be told
    """

    strides: list[list[int]]
    kernels: list[list[int]]
    own: bool = True


def plan_pooling(window: Sequence[int], spacing: Sequence[float]) -> Pooling:
    """Halve each axis as long as it is long enough, the finer ones first, until voxels are near cubes.

    An axis is halved at a level where its voxels are less than twice as long as the shortest of those that can be
    halved, and it has twice the least side; kernels are flat along an axis until its voxels are less than twice as long
    as the shortest of all (Isensee et al. 2021).

    Parameters
    ----------
    window : voxels along each axis
    spacing : mm along each axis
    """
    sides, apart, halved = list(window), list(spacing), [0] * len(window)
    pooling, wide = Pooling([[1] * len(sides)], []), [False] * len(sides)
    while True:
        long = [axis for axis, side in enumerate(sides) if side >= 2 * _SMALLEST_SIDE]
        finest = min((apart[axis] for axis in long), default=0.0)
        chosen = [axis for axis in long if apart[axis] < 2 * finest and halved[axis] < _MOST_LEVELS]
        if not chosen or (len(chosen) == 1 and sides[chosen[0]] < 3 * _SMALLEST_SIDE):
            pooling.kernels.append([3] * len(sides))
            return pooling
        wide = [was or each < 2 * min(apart) for was, each in zip(wide, apart, strict=True)]
        pooling.kernels.append([3 if each else 1 for each in wide])
        pooling.strides.append([2 if axis in chosen else 1 for axis in range(len(sides))])
        for axis in chosen:
            sides[axis], apart[axis], halved[axis] = -(-sides[axis] // 2), apart[axis] * 2, halved[axis] + 1


def _find_pooling(network: str, window: Sequence[int], spacing: Sequence[float]) -> Pooling:
    """Return how a network halves a window: each axis by itself where it can, else all at once."""
    if _EACH_AXIS & find_config(SEGMENTERS, network).model_fields.keys():
        pooling = plan_pooling(window, spacing)
        if len(pooling.strides) > _LEAST_LEVELS:
            return pooling
    levels = int(np.clip(np.floor(np.log2(max(min(window), 1) / _SMALLEST_SIDE)), 1, _MOST_LEVELS))
    axes = len(window)
    return Pooling([[1] * axes] + [[2] * axes] * levels, [[3] * axes] * (levels + 1), own=False)


def _round(window: "np.typing.NDArray[np.int_]", pooling: Pooling, flat: bool) -> Triple:
    """Return the next sides that every level can halve."""
    steps = [*np.prod(pooling.strides, axis=0).tolist(), 1]
    i, j, k = (int(-(-side // step) * step) for side, step in zip(window, steps[:3], strict=True))
    return (i, j, 1) if flat else (i, j, k)


def _choose_config(wishes: Wishes, found: Fingerprint, classes: int, pooling: Pooling, flat: bool) -> dict[str, Any]:
    """Return the options of a network; what is not known of it stays as the network has it."""
    fields = find_config(SEGMENTERS, wishes.network).model_fields
    filters = [min(wishes.width * 2**level, _MOST_FILTERS) for level in range(len(pooling.strides))]
    config: dict[str, Any] = {"in_channels": found.channels, "classes": classes}
    if "filters" in fields and getattr(fields["filters"].annotation, "__name__", "") != "int":
        config["filters"] = filters if len(filters) > 2 else [*filters, filters[-1]]
    if pooling.own:
        told = {"strides": pooling.strides, "kernels": pooling.kernels}
        if any(1 in factors for factors in pooling.strides[1:]) or flat:
            told["pooling"] = [[*factors, 1][:3] for factors in pooling.strides[1:]]
        config |= {name: value for name, value in told.items() if name in fields}
    if "spatial_dims" in fields:
        config["spatial_dims"] = 2 if flat else 3
    if "context" in fields and found.shape[2] > 1:
        config["context"] = wishes.context
    return config


def _choose_batch(
    found: Fingerprint, wishes: Wishes, window: Triple, config: dict[str, Any], shape: Triple, memory: float
) -> tuple[int, float]:
    voxels = found.cases * int(np.prod(shape))
    most = int(np.clip(_MOST_OF_DATA * voxels / np.prod(window), _LEAST_BATCH, _MOST_BATCH))
    more = estimate_memory(wishes.network, config, window, 2 * _LEAST_BATCH)
    each = max((more - memory) / _LEAST_BATCH, 1e-9)  # what is kept grows with the samples
    batch = int(np.clip(_LEAST_BATCH + (wishes.memory_gib - memory) // each, _LEAST_BATCH, most))
    return batch, memory + each * (batch - _LEAST_BATCH)


def _choose_normalisation(found: Fingerprint) -> tuple[Normalisation, str]:
    low, high, mean, deviation = found.foreground
    if found.hounsfield:
        options = Normalisation(method="fixed", clip=(round(low, 2), round(high, 2)), mean=round(mean, 3),
                                deviation=max(round(deviation, 3), 1e-3))  # fmt: skip
        return options, "Hounsfield units: percentiles, mean and deviation of all labelled voxels"
    return Normalisation(method="zscore"), "units differ from scan to scan: mean 0 and deviation 1 of each"
