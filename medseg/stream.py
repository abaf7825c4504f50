"""Sliding windows blended as they pass: a voxel is handed on as soon as no window to come can see it.

Memory holds one window and the seams between windows, not the whole volume once for every label.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from monai.data.utils import compute_importance_map
from torch import Tensor
from torch.nn import functional as F

Box = tuple[slice, slice, slice]
Block = tuple[Box, Tensor]
Predict = Callable[[Tensor], Tensor]
Tick = Callable[[float], None]

_AXES = 3
_HALF_SCALE = 256.0  # lifts the weights of a half-precision blend out of the subnormal numbers


@dataclass(frozen=True)
class Windows:
    """How a volume is cut.

    Parameters
    ----------
    size : voxels of a window (i, j, k)
    overlap : share of a window that the next one sees again
    at_once : windows in one call of the network
    """

    size: tuple[int, int, int]
    overlap: float = 0.5
    at_once: int = 1


def stream(image: Tensor, predict: Predict, windows: Windows, tick: Tick | None = None) -> Iterator[Block]:
    """Predict window by window, blend overlaps by a Gaussian, and yield what is finished.

    The values are those of MONAI's ``sliding_window_inference`` with ``mode="gaussian"``: the same windows, the same
    weights (deviation 1/8 of a side), zeros around a volume that is smaller than a window.

    Parameters
    ----------
    image : tensor (c, i, j, k)
    predict : tensor (b, c, *size) -> tensor (b, label, *size)
    windows : Windows
    tick : called with the share of windows done

    Yields
    ------
    box of voxels, tensor (label, i', j', k')
        The boxes divide the volume: every voxel is in exactly one, in the order i, j, k.
    """
    shape = image.shape[1:]
    image, before = _pad(image, windows.size)
    starts = [find_starts(*each, windows.overlap) for each in zip(image.shape[1:], windows.size, strict=True)]
    counts = [len(each) for each in starts]
    seams = _Seams(starts, windows.size)
    positions = list(product(*map(range, counts)))
    for done in range(0, len(positions), windows.at_once):
        group = positions[done : done + windows.at_once]
        corners = [[starts[axis][at] for axis, at in enumerate(position)] for position in group]
        values = predict(torch.stack([image[(slice(None), *_box(corner, windows.size))] for corner in corners]))
        for number, position in enumerate(group):
            low, block = seams.blend(position, values[number])
            if (inside := _clip(low, block, before, shape)) is not None:
                yield inside
        if tick is not None:
            tick((done + len(group)) / len(positions))


def find_starts(side: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along one axis; the last one ends with the volume.

    Parameters
    ----------
    side, window : voxels, `side` at least `window`
    overlap : share of a window
    """
    step = max(1, int(window * (1 - overlap)))
    return [min(start, side - window) for start in range(0, max(side - window, 0) + step, step)]


class _Seams:
    """What a window leaves for those that come after it along each axis, weights in the last channel."""

    def __init__(self, starts: Sequence[Sequence[int]], size: tuple[int, int, int]) -> None:
        self._starts, self._size = starts, size
        self._left: tuple[dict[tuple[int, ...], Tensor], ...] = ({}, {}, {})
        self._weight: Tensor | None = None

    def blend(self, position: tuple[int, ...], values: Tensor) -> tuple[list[int], Tensor]:
        """Add a window to what others left, leave behind what others will see, return where the rest lies and it."""
        corner = [self._starts[axis][at] for axis, at in enumerate(position)]
        block = self._weigh(values)
        for axis in reversed(range(_AXES)):
            left, key, at = self._left[axis], tuple(corner[axis + 1 :]), position[axis]
            before = left.pop(key, None)
            if before is not None:
                block.narrow(axis + 1, 0, before.shape[axis + 1]).add_(before)
            if at + 1 < len(self._starts[axis]):
                step = self._starts[axis][at + 1] - corner[axis]
                left[key] = block.narrow(axis + 1, step, self._size[axis] - step).clone()
                block = block.narrow(axis + 1, 0, step)
        return corner, block[:-1].div_(block[-1:])

    def _weigh(self, values: Tensor) -> Tensor:
        if self._weight is None:
            weight = compute_importance_map(self._size, mode="gaussian", device=values.device)
            self._weight = (weight * (_HALF_SCALE if values.dtype == torch.float16 else 1)).to(values.dtype)
        block = values.new_empty((len(values) + 1, *self._size))
        torch.mul(values, self._weight, out=block[:-1])
        block[-1] = self._weight
        return block


def _pad(image: Tensor, size: tuple[int, int, int]) -> tuple[Tensor, list[int]]:
    """Put zeros around an image that is smaller than a window; return how many stand before it along each axis."""
    missing = [max(0, window - side) for side, window in zip(image.shape[1:], size, strict=True)]
    before = [more // 2 for more in missing]
    if not any(missing):
        return image, before
    pads = [pad for more, first in zip(missing[::-1], before[::-1], strict=True) for pad in (first, more - first)]
    return F.pad(image, pads), before


def _box(corner: Sequence[int], size: Sequence[int]) -> Box:
    i, j, k = (slice(at, at + side) for at, side in zip(corner, size, strict=True))
    return i, j, k


def _clip(low: Sequence[int], block: Tensor, before: Sequence[int], shape: Sequence[int]) -> Block | None:
    """Return a block without what was padded, and where it lies in the volume; None where nothing is left."""
    starts = [max(0, at - pad) for at, pad in zip(low, before, strict=True)]
    stops = [
        min(side, at - pad + length)
        for at, pad, side, length in zip(low, before, shape, block.shape[1:], strict=True)
    ]  # fmt: skip
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
        return None
    inner = [
        slice(start - at + pad, stop - at + pad)
        for start, stop, at, pad in zip(starts, stops, low, before, strict=True)
    ]  # fmt: skip
    i, j, k = (slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    return (i, j, k), block[(slice(None), *inner)]
