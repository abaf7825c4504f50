"""Whether trials and stimuli belong together: repeats must agree more than trials whose stimuli were permuted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Betas
from voxelight.neuro.evaluate.intervals import permutation_p

Pairs = NDArray[np.intp]

_MOST_TRIALS, _MOST_VOXELS = 1500, 3000
_FEWEST_PAIRS = 8
_LEVEL = 0.05


@dataclass(frozen=True)
class Alignment:
    """How two showings of a stimulus agree, beside showings whose stimuli were permuted.

    Parameters
    ----------
    reliability : mean over pairs of showings of the mean product over voxels, each voxel standardised in its session:
        about the correlation of a voxel between two showings; None where too few stimuli repeat
    null_mean, null_std, p : the same with stimuli permuted inside each session
    pairs : pairs of showings that were looked at
    shift : by how many trials stimuli are off, where that makes repeats agree and they don't as they are
    """

    reliability: float | None
    null_mean: float
    null_std: float
    p: float
    pairs: int
    shift: int | None = None

    @property
    def aligned(self) -> bool | None:
        """Whether repeats agree; None where that can't be said."""
        return None if self.reliability is None else self.p <= _LEVEL

    def line(self) -> str:
        """Return the finding in words."""
        if self.reliability is None:
            return f"{self.pairs} pairs of repeats: whether trials and stimuli are aligned can't be said."
        told = (
            f"repeat reliability {self.reliability:.3f}, {self.null_mean:.3f} ± {self.null_std:.3f} with permuted "
            f"stimuli, p = {self.p:.3g} over {self.pairs} pairs"
        )
        if self.aligned:
            return f"Repeats agree: {told}."
        off = "" if self.shift is None else f"; they agree when stimuli move by {self.shift:+d} trials, so off by one"
        return f"Trials and stimuli seem misaligned: {told}{off}."


def check_alignment(betas: Betas, permutations: int = 199, seed: int = 0) -> Alignment:
    """Compare the agreement of repeats with that of permuted stimuli.

    Parameters
    ----------
    betas : Betas (trial, voxel); of many trials and voxels some are looked at, drawn by the seed
    permutations : draws of the null
    seed : of all draws

    Returns
    -------
    Alignment
        That the repeats agree doesn't say that pictures are the right ones: a table that names every picture by another
        picture's name can't be told from here.
    """
    draw = np.random.default_rng(seed)
    rows = _choose_trials(betas, draw)
    sessions = np.unique(betas.labels.get("session", np.zeros(len(betas.values), str))[rows], return_inverse=True)[1]
    ids = np.unique(betas.stimulus_ids, return_inverse=True)[1]
    pairs = _find_pairs(ids[rows])
    if len(pairs) < _FEWEST_PAIRS:
        return Alignment(None, 0.0, 0.0, 1.0, len(pairs))
    columns = np.sort(draw.permutation(betas.values.shape[1])[:_MOST_VOXELS])
    gram = _similarity(betas.values[rows][:, columns], sessions)
    observed = _agree(gram, pairs)
    null = np.array([_agree(gram, _permute(sessions, draw)[pairs]) for _ in range(permutations)])
    p = permutation_p(observed, null)
    shift = None if p <= _LEVEL else _find_shift(gram, ids, rows, float(null.max()))
    return Alignment(observed, float(null.mean()), float(null.std()), p, len(pairs), shift)


def _choose_trials(betas: Betas, draw: np.random.Generator) -> Pairs:
    """Return whole stretches of trials, so that a shift can be looked for: all, or the first of the file."""
    if len(betas.values) <= _MOST_TRIALS:
        return np.arange(len(betas.values))
    _, place, counts = np.unique(betas.stimulus_ids, return_inverse=True, return_counts=True)
    repeated = draw.permutation(np.flatnonzero(counts > 1))
    kept = np.cumsum(counts[repeated]) <= _MOST_TRIALS
    return np.flatnonzero(np.isin(place, repeated[kept]))


def _find_pairs(ids: Pairs) -> Pairs:
    """Return each two successive showings of a stimulus: array (pair, 2), places among the trials."""
    order = np.argsort(ids, kind="stable")
    same = ids[order][1:] == ids[order][:-1]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def _similarity(values: NDArray[Any], sessions: Pairs) -> NDArray[np.float64]:
    scaled = np.empty(values.shape)
    for session in np.unique(sessions):
        part = values[sessions == session].astype(np.float64)
        spread = part.std(0)
        scaled[sessions == session] = (part - part.mean(0)) / np.where(spread > 0, spread, 1)
    similar: NDArray[np.float64] = scaled @ scaled.T / values.shape[1]
    return similar


def _agree(gram: NDArray[np.float64], pairs: Pairs) -> float:
    return float(gram[pairs[:, 0], pairs[:, 1]].mean())


def _permute(sessions: Pairs, draw: np.random.Generator) -> Pairs:
    order = np.arange(len(sessions))
    for session in np.unique(sessions):
        rows = np.flatnonzero(sessions == session)
        order[rows] = draw.permutation(rows)
    return order


def _find_shift(gram: NDArray[np.float64], ids: Pairs, rows: Pairs, above: float) -> int | None:
    if len(rows) < len(ids):
        return None  # trials with gaps between them don't show a shift
    found = {shift: _agree(gram, _find_pairs(np.roll(ids, shift))) for shift in (1, -1)}
    best = max(found, key=lambda shift: found[shift])
    return best if found[best] > above else None
