"""What a person should know of a file that is accepted all the same."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Betas
from voxelight.neuro.alignment import Alignment, check_alignment
from voxelight.storage.formats.found import Finding
from voxelight.storage.formats.nifti_header import SourceGrid

_LABEL_NAME = re.compile(r"(^|_)(dseg|mask|labels?|seg)\b", re.IGNORECASE)
_MIN_REPEATS = 3
_MAX_ANISOTROPY = 3.0


@dataclass
class Tally:
    """Counts over the parts of an image, one in memory at a time."""

    low: float = np.inf
    high: float = -np.inf
    voxels: int = 0
    non_finite: int = 0
    negative: int = 0
    fractions: int = 0

    def add(self, array: NDArray[np.float32]) -> None:
        """Count one volume."""
        finite = array[np.isfinite(array)]
        self.voxels += array.size
        self.non_finite += array.size - finite.size
        self.negative += int(np.count_nonzero(finite < 0))
        self.fractions += int(np.count_nonzero(finite != np.rint(finite)))
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))


def of_grid(grid: SourceGrid, spacing: tuple[float, float, float]) -> Iterator[Finding]:
    """Say what to know of where the voxels lie."""
    if not grid.is_placed:
        yield Finding(
            found="a header that does not say where left is (sform and qform codes are 0)",
            remedy=f"Axes are taken as {grid.orientation}; check the side before you trust any left or right.",
        )
    if max(spacing) > _MAX_ANISOTROPY * min(spacing):
        yield Finding(
            found=f"voxels of {' x '.join(f'{side:.3g}' for side in spacing)} mm",
            remedy="Results across thick slices are coarse; prefer a recipe made for such images.",
        )


def of_values(name: str, tally: Tally) -> Iterator[Finding]:
    """Say what to know of the values of an image of this name."""
    if tally.negative:
        yield Finding(
            found=f"{tally.negative} of {tally.voxels} values below zero, down to {tally.low:.4g}",
            remedy="They are kept. Usual in betas and CT; in MR often an overshoot of interpolation outside the head.",
        )
    if tally.non_finite:
        yield Finding(
            found=f"{tally.non_finite} of {tally.voxels} values that are NaN or infinite",
            remedy="Give a mask that leaves these voxels out.",
        )
    if tally.low == tally.high:
        yield Finding(found=f"one value everywhere, {tally.low:.4g}", remedy="Check that this is the image you meant.")
    if tally.fractions and _LABEL_NAME.search(name):
        yield Finding(
            found=f"{tally.fractions} fractional values in what its name calls labels",
            remedy="Resample labels with nearest neighbour, or threshold probabilities.",
        )


def of_repeats(shown: NDArray[np.str_]) -> Iterator[Finding]:
    """Say what to know of how often each stimulus was shown."""
    few = sum(repeats < _MIN_REPEATS for repeats in Counter(shown.tolist()).values())
    if few:
        yield Finding(
            found=f"{few} of {len(set(shown.tolist()))} stimuli shown fewer than {_MIN_REPEATS} times",
            remedy="Noise ceilings and averages over repeats are weak for these.",
        )


def of_betas(betas: Betas) -> Iterator[Finding]:
    """Say what to know of the values of betas."""
    mean, deviation = betas.values.mean(axis=0), betas.values.std(axis=0)
    if np.median(np.abs(mean)) < 0.05 and np.median(np.abs(deviation - 1)) < 0.05:
        yield Finding(
            found="voxels of mean 0 and deviation 1 over all trials, as if z-scored before any split",
            remedy="Scores are slightly optimistic; give betas before z-scoring, which is done inside every fold.",
        )
    constant = int(np.count_nonzero(deviation == 0))
    if constant:
        yield Finding(found=f"{constant} voxels that never change", remedy="Leave them out by the mask.")


def of_alignment(betas: Betas, found: Alignment | None = None) -> Iterator[Finding]:
    """Say whether trials and stimuli seem misaligned: repeats that agree no more than with permuted stimuli.

    Parameters
    ----------
    betas : trials with their stimuli
    found : of `check_alignment`, where it was made already
    """
    found = found or check_alignment(betas)
    if found.aligned is False:
        yield Finding(
            found=found.line(),
            remedy="Check the order of trials and the counting of stimuli (from 0 or 1) before anything is decoded.",
        )
    elif found.aligned is None:
        yield Finding(found=found.line(), remedy="Show some stimuli twice or more, or check the tables by hand.")
