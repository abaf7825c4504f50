"""From blocks of probabilities to the likeliest label of each voxel, on the network's grid or between its voxels.

Probabilities are interpolated, so that borders stay smooth; but block by block, so that no array of labels times voxels
of the image is ever made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelight.medseg.stream import Box
from voxelight.medseg.transforms import resample
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry

Labels = NDArray[np.uint8] | NDArray[np.uint16]
_AXES = 3
_CHUNK = 1 << 24  # interpolated values in memory at once
_HELD = 1 << 26  # values that are interpolated along two axes, in memory at once
_ALIGNED_MM = 1e-3


class LabelReducer:
    """Takes blocks of probabilities and keeps the likeliest label of every voxel of an image.

    A finer image is read linearly between the voxels of the network; a coarser one averages them by a triangle as wide
    as two of its voxels. Beyond the outermost voxel of the network its value goes on.

    Parameters
    ----------
    source : grid of the network
    target : grid of the image, along the same axes
    labels : how many, background included
    confidence : keep the probability of the label too
    overlapping : where channels are regions that may overlap, the label that each gives to its voxels, unless a later
        one holds them too; a region holds what has a probability above one half

    Raises
    ------
    BadInput
        The two grids are turned against each other.
    """

    def __init__(
        self,
        source: Geometry,
        target: Geometry,
        labels: int,
        confidence: bool = False,
        overlapping: Sequence[int] = (),
    ) -> None:
        self._same = source.matches(target)
        self._overlapping = tuple(overlapping)
        self._axes = tuple(_find_axes(source, target))
        self._halos: tuple[dict[tuple[int, ...], Tensor], ...] = ({}, {}, {})
        few = labels <= 2**8
        self.labels: Labels = np.zeros(target.shape, np.uint8) if few else np.zeros(target.shape, np.uint16)
        self.confidence = np.zeros(target.shape, dtype=np.float16) if confidence else None

    def take(self, box: Box, probabilities: Tensor) -> None:
        """Take the next block, in the order in which `stream` yields them.

        Parameters
        ----------
        box : voxels of the network's grid
        probabilities : tensor (label, i, j, k)
        """
        if self._same:
            self._write(box, *self._choose(probabilities))
            return
        block = self._join(box, probabilities)
        spans = [axis.find_targets(part) for axis, part in zip(self._axes, box, strict=True)]
        if any(span.stop <= span.start for span in spans):
            return
        starts = [part.stop - side for part, side in zip(box, block.shape[1:], strict=True)]
        kept, block = (None, block) if self._overlapping else _keep_likely(block)
        weights = [
            axis.find_weights(span, start, side)
            for axis, span, start, side in zip(self._axes, spans, starts, block.shape[1:], strict=True)
        ]
        along_i, along_j, along_k = (each.to(block) for each in weights)
        a_plane = len(block) * len(along_j) * len(along_k)
        # Along k and j first, some planes of the network at a time; then along i, some planes of the image at a time.
        for rows, planes in _cut_strips(weights[0], max(2, _HELD // a_plane)):
            part = along_j @ (block[:, planes] @ along_k.T)
            step = max(1, _CHUNK // a_plane)
            for at in range(rows.start, rows.stop, step):
                values = torch.einsum("xi,cijk->cxjk", along_i[at : min(at + step, rows.stop), planes], part)
                place = slice(spans[0].start + at, spans[0].start + at + values.shape[1])
                chosen, best = self._choose(values)
                self._write((place, spans[1], spans[2]), chosen if kept is None else kept[chosen], best)

    def _choose(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return assemble(values, self._overlapping) if self._overlapping else _choose(values)

    def _join(self, box: Box, block: Tensor) -> Tensor:
        """Put before a block the planes of its neighbours that its voxels are interpolated from."""
        for axis in range(_AXES):
            halos, key = self._halos[axis], tuple(part.start for part in box[axis + 1 :])
            before = halos.pop(key, None)
            block = block if before is None else torch.cat([before, block], dim=axis + 1)
            if box[axis].stop < self._axes[axis].sources:
                side = block.shape[axis + 1]
                deep = min(self._axes[axis].halo, side)
                halos[key] = block.narrow(axis + 1, side - deep, deep).clone()
        return block

    def _write(self, box: Box, chosen: Tensor, best: Tensor) -> None:
        # Narrowed before it leaves the device: an index has eight bytes.
        self.labels[box] = chosen.to(torch.uint8 if self.labels.dtype == np.uint8 else torch.int32).cpu().numpy()
        if self.confidence is not None:
            self.confidence[box] = best.cpu().numpy()


def assemble(probabilities: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Put a label map together of regions that overlap, the later over the earlier (nnU-Net's regions_class_order).

    Parameters
    ----------
    probabilities : tensor (region, ...) in [0, 1]
    numbers : label of each region

    Returns
    -------
    labels, tensor (...); how sure the least certain of all regions is, tensor (...)
    """
    labels = torch.zeros(probabilities.shape[1:], dtype=torch.int64, device=probabilities.device)
    for values, number in zip(probabilities, numbers, strict=True):
        labels.masked_fill_(values > 0.5, number)
    return labels, torch.maximum(probabilities, 1 - probabilities).amin(dim=0)


def reduce_turned(
    probabilities: NDArray[np.float32], source: Geometry, target: Geometry
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the likeliest label of each voxel of a grid that is turned against the network's, one label at a time.

    Background has what the other labels leave, which is all of it outside the network's grid.

    Parameters
    ----------
    probabilities : array (label, i, j, k) on `source`, background first
    source, target : grids in one world

    Returns
    -------
    array (i', j', k') on `target`, uint8; the probability of that label, array (i', j', k')
    """
    labels = np.zeros(target.shape, dtype=np.uint8)
    best, background = np.zeros(target.shape, dtype=np.float32), np.ones(target.shape, dtype=np.float32)
    for number in range(1, len(probabilities)):
        values = resample(probabilities[number : number + 1], source, target)[0]
        background -= values
        better = values > best
        labels[better], best[better] = number, values[better]
    labels[background >= best] = 0
    return labels, np.maximum(best, background)


@dataclass(frozen=True)
class _Axis:
    """How the voxels of an image lie among those of the network along one axis, in voxels of the network."""

    sources: int
    targets: int
    step: float
    offset: float

    @property
    def reach(self) -> float:
        return max(1.0, self.step)

    @property
    def halo(self) -> int:
        return int(np.ceil(2 * self.reach))

    def find_targets(self, part: slice) -> slice:
        """Return the voxels of the image whose last neighbour lies in a block."""
        last = np.ceil(self._places() + self.reach) - 1
        low, high = np.searchsorted(np.clip(last, 0, self.sources - 1), [part.start, part.stop])
        return slice(int(low), int(high))

    def find_weights(self, span: slice, start: int, side: int) -> Tensor:
        """Return matrix (voxel of the image, voxel of the network from `start` on)."""
        places = np.clip(self._places()[span], 0, self.sources - 1)
        apart = np.abs(places[:, None] - np.arange(start, start + side))
        weights = np.maximum(0, 1 - apart / self.reach)
        return torch.from_numpy(weights / weights.sum(axis=1, keepdims=True))

    def _places(self) -> NDArray[np.float64]:
        places: NDArray[np.float64] = self.offset + self.step * np.arange(self.targets, dtype=np.float64)
        return places


def _find_axes(source: Geometry, target: Geometry) -> list[_Axis]:
    step = np.linalg.inv(source.affine) @ target.affine
    turned = step[:3, :3] - np.diag(np.diag(step[:3, :3]))
    if np.abs(turned * np.array(target.shape)).max() > _ALIGNED_MM or (np.diag(step)[:3] <= 0).any():
        raise BadInput("two grids that are turned against each other", "one orientation", "Resample the image first.")
    return [
        _Axis(source.shape[axis], target.shape[axis], float(step[axis, axis]), float(step[axis, 3]))
        for axis in range(_AXES)
    ]


def _cut_strips(weights: Tensor, most: int) -> Iterator[tuple[slice, slice]]:
    """Yield planes of the image together with the planes of the network that they are read from, `most` at once.

    Parameters
    ----------
    weights : matrix (plane of the image, plane of the network)
    most : planes of the network; one plane of the image may take more
    """
    there = (weights > 0).int()
    firsts = there.argmax(dim=1).tolist()
    stops = (weights.shape[1] - there.flip(1).argmax(dim=1)).tolist()
    start = 0
    for row in range(1, len(firsts) + 1):
        if row == len(firsts) or stops[row] - firsts[start] > most:
            yield slice(start, row), slice(firsts[start], stops[row - 1])
            start = row


def _choose(values: Tensor) -> tuple[Tensor, Tensor]:
    best, chosen = values.max(dim=0)
    return chosen, best


def _keep_likely(block: Tensor) -> tuple[Tensor | None, Tensor]:
    """Leave out labels that can't win anywhere in a block: the winner has more than its share, or another has half.

    Returns numbers of the labels that are kept, None where all are; and their probabilities.
    """
    flat = block.flatten(1)
    certain = flat.amin(dim=1) > 0.5
    kept = certain if bool(certain.any()) else flat.amax(dim=1) >= 1 / len(block) * (1 - 1e-3)
    if bool(kept.all()):
        return None, block
    numbers = kept.nonzero().flatten()
    return numbers, block[numbers]
