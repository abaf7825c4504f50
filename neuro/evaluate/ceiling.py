"""Noise ceilings from repeats: how much of a score the noise of the measurement leaves within reach.

A ceiling is for display and to read a score by. It is never for selection: computed with held-out trials, as NSD's own
is, it would carry them into the choice of voxels. `choose_voxels` takes training rows alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.betas import select_rows
from voxelight.neuro.splits import Rows

Floats = NDArray[np.floating[Any]]

USE = "display and ceiling only, never selection"


@dataclass(frozen=True, eq=False)
class Ceiling:
    """The noise ceiling of each voxel.

    Parameters
    ----------
    ncsnr : array (voxel,), standard deviation of the signal over that of the noise
    explainable : array (voxel,), share of the variance of averages that is signal, NC = ncsnr² / (ncsnr² + 1/n)
    repeats : n, the harmonic mean of the trials that are averaged
    use : what it may be used for
    """

    ncsnr: NDArray[np.float64]
    explainable: NDArray[np.float64]
    repeats: float
    use: str = USE

    @property
    def correlation(self) -> NDArray[np.float64]:
        """The largest correlation within reach of each voxel, sqrt(NC): array (voxel,)."""
        return np.sqrt(self.explainable)


def find_ceiling(betas: Betas) -> Ceiling:
    """Return the noise ceiling of each voxel from the repeats of its stimuli (Allen et al. 2022, ncsnr).

    Noise variance is the variance over the trials of one stimulus (ddof 1), pooled over stimuli by their degrees of
    freedom; signal variance is the variance of all trials less that, not below 0. Voxels are standardised first, which
    changes neither.

    Parameters
    ----------
    betas : Betas (trial, voxel), two trials or more of some stimuli; others do not take part

    Raises
    ------
    BadInput
        Fewer than two stimuli were repeated.
    """
    _, place, counts = np.unique(betas.stimulus_ids, return_inverse=True, return_counts=True)
    repeated = counts >= 2
    if repeated.sum() < 2:
        raise BadInput(f"{int(repeated.sum())} stimuli with repeats", "two or more", "A ceiling takes repeats.")
    rows = repeated[place]
    values, place = betas.values[rows].astype(np.float64), np.unique(place[rows], return_inverse=True)[1]
    n = np.bincount(place).astype(np.float64)
    means = np.zeros((len(n), values.shape[1]))
    np.add.at(means, place, values)
    means /= n[:, None]
    within = ((values - means[place]) ** 2).sum(0)
    noise = within / (len(values) - len(n))
    signal = (values.var(0, ddof=1) - noise).clip(min=0)
    ncsnr = np.sqrt(signal / np.where(noise > 0, noise, np.inf))
    ncsnr[(noise == 0) & (signal > 0)] = np.inf
    repeats = float(len(n) / (1 / n).sum())
    squared = ncsnr**2
    explainable = np.where(np.isinf(squared), 1.0, squared / (np.where(np.isinf(squared), 1, squared) + 1 / repeats))
    return Ceiling(ncsnr, explainable, repeats)


def describe_ceiling(betas: Betas) -> list[str]:
    """Return the noise ceiling of all voxels in a sentence; nothing without repeats."""
    if (np.unique(betas.stimulus_ids, return_counts=True)[1] >= 2).sum() < 2:
        return []
    ceiling = find_ceiling(betas)
    return [
        f"Noise ceiling of the {len(ceiling.ncsnr)} voxels ({ceiling.use}): median ncsnr "
        f"{np.median(ceiling.ncsnr):.2f}, {100 * np.median(ceiling.explainable):.0f} % of the variance of averages "
        f"of {ceiling.repeats:.1f} trials can be explained."
    ]


def correct_length(reliability: Floats | float, times: float) -> Any:
    """Return the reliability of a measurement that is so many times longer: r' = k r / (1 + (k - 1) r).

    Spearman 1910, Brown 1910. From the correlation of single trials to that of averages of `times` trials.

    Parameters
    ----------
    reliability : correlation of two repeats, below or at 1
    times : k
    """
    return times * reliability / (1 + (times - 1) * reliability)


def find_reliability(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Correlate two halves of the repeats over stimuli and correct for the whole (Spearman-Brown with k = 2).

    For voxels, and for decoded tokens, whose ceiling has no closed form.

    Parameters
    ----------
    first, second : array (stimulus, target), averages over one half of the repeats each, stimuli in one order

    Returns
    -------
    array (target,); 0 where a half does not vary or both oppose each other
    """
    a, b = (half.astype(np.float64) - half.mean(0, dtype=np.float64) for half in (first, second))
    norms = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    r = np.divide((a * b).sum(0), norms, out=np.zeros(a.shape[1]), where=norms > 0).clip(min=0)
    whole: NDArray[np.float64] = correct_length(r, 2)
    return whole


def choose_voxels(betas: Betas, train: Rows, count: int) -> NDArray[np.intp]:
    """Return the voxels whose training trials repeat best, from the largest ncsnr down to ties in their own order.

    Parameters
    ----------
    betas : Betas (trial, voxel)
    train : array (row,), the training rows of the fold; no other is looked at
    count : how many voxels

    Raises
    ------
    BadInput
        There are fewer voxels, or fewer than two training stimuli were repeated.
    """
    if not 1 <= count <= betas.values.shape[1]:
        raise BadInput(
            f"{count} of {betas.values.shape[1]} voxels", "one or more, and no more than there are", "Ask so."
        )
    ncsnr = find_ceiling(select_rows(betas, train)).ncsnr
    return np.sort(np.argsort(-ncsnr, kind="stable")[:count])
