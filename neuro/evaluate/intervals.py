"""Intervals and p-values by resampling."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def bootstrap_mean(scores: Floats, clusters: NDArray[np.str_], n_draws: int, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of a mean, whole clusters drawn with replacement.

    Parameters
    ----------
    scores : array (item,)
    clusters : array (item,), what the items were sampled by, e.g. the stimulus, or the photograph that crops come from
    n_draws : number of draws
    seed : of the draws

    Returns
    -------
    low, high
    """
    _, place = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(place, weights=scores), np.bincount(place)
    draws = np.random.default_rng(seed).integers(len(sums), size=(n_draws, len(sums)))
    low, high = np.percentile(sums[draws].sum(1) / sizes[draws].sum(1), [2.5, 97.5])
    return float(low), float(high)


def permutation_p(observed: float, null: Floats) -> float:
    """Return p = (1 + b) / (1 + B), b of the B draws being at least as large (Phipson and Smyth 2010, eq. 2).

    Parameters
    ----------
    observed : the score
    null : array (draw,)
    """
    # Equal scores that were summed in another order differ in their last bits.
    as_large = int((null >= observed - 1e-12).sum())
    return (1 + as_large) / (1 + len(null))


def draw_permutations(units: NDArray[np.str_], n_draws: int, seed: int) -> NDArray[np.intp]:
    """Draw which stimulus stands in for which, leaving the design as it is.

    Units of one size that hold several stimuli change places whole, with their stimuli shuffled inside; otherwise every
    stimulus changes places freely.

    Parameters
    ----------
    units : array (stimulus,), the unit that each stimulus is held out with
    n_draws : number of draws
    seed : of the draws

    Returns
    -------
    array (draw, stimulus), row numbers of stimuli
    """
    random = np.random.default_rng(seed)
    if not moves_units_whole(units):
        return random.permuted(np.tile(np.arange(len(units)), (n_draws, 1)), axis=1)
    members = np.argsort(units, kind="stable").reshape(len(np.unique(units)), -1)
    permutations = np.empty((n_draws, len(units)), dtype=np.intp)
    for draw in permutations:
        draw[members] = random.permuted(members[random.permutation(len(members))], axis=1)
    return permutations


def moves_units_whole(units: NDArray[np.str_]) -> bool:
    """Whether the null exchanges whole units: there are several, of one size above one."""
    sizes = np.unique(units, return_counts=True)[1]
    return len(sizes) > 1 and sizes[0] > 1 and bool((sizes == sizes[0]).all())
