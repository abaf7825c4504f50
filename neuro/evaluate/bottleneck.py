"""The bottleneck curve: what is still decoded when only k dimensions of the betas pass (Mayo et al. 2024, BrainBits).

A generator with a strong prior draws well from very little. Where the curve is flat from k = 1 on, the pictures speak
of the prior; where it rises, of the brain.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.compare import Curve
from voxelight.neuro.evaluate.intervals import bootstrap_mean
from voxelight.neuro.splits import Labels

Floats = NDArray[np.floating[Any]]


class Components:
    """Principal components of training rows.

    Parameters
    ----------
    train : array (trial, voxel), the training rows of the fold and no others
    """

    def __init__(self, train: Floats) -> None:
        self.mean = train.mean(0, dtype=np.float64)
        _, self._scales, self.axes = np.linalg.svd(train - self.mean, full_matrices=False)

    @property
    def rank(self) -> int:
        """How many components vary over the training rows."""
        return int((self._scales > 1e-10 * max(1e-300, float(self._scales.max(initial=0)))).sum())

    def project(self, values: Floats, k: int) -> NDArray[np.float64]:
        """Return what the first k components keep of rows, array (trial, k)."""
        kept: NDArray[np.float64] = (values - self.mean) @ self.axes[:k].T
        return kept


def sweep_bottleneck(
    folds: Sequence[tuple[Floats, Floats]],
    ks: Sequence[int],
    decode: Callable[[int, Floats, Floats], Floats],
    score: Callable[[Floats], Floats],
    ids: Labels,
) -> Curve:
    """Decode and score with k dimensions of the betas, for every k; the components are fitted in each fold.

    Parameters
    ----------
    folds : (training betas (trial, voxel), held-out betas (item, voxel)) of each fold, normalised in the fold
    ks : numbers of dimensions, rising; those above the rank of a fold's training rows are left out
    decode : (number of the fold, training components (trial, k), held-out components (item, k)) -> predictions
    score : predictions of all folds in turn (item, ...) -> array (picture,)
    ids : array (picture,), what is drawn in the bootstrap

    Raises
    ------
    BadInput
        No k is left.
    """
    components = [Components(train) for train, _ in folds]
    possible = min((each.rank for each in components), default=0)
    kept = sorted({k for k in ks if 1 <= k <= possible})
    if not kept:
        raise BadInput(f"bottlenecks of {list(ks)} dimensions", f"one from 1 to {possible}", "Choose smaller ones.")
    scored = []
    for k in kept:
        predictions = [
            decode(number, each.project(train, k), each.project(test, k))
            for number, (each, (train, test)) in enumerate(zip(components, folds, strict=True))
        ]
        scored.append(score(np.concatenate(predictions)))
    limits = [bootstrap_mean(scores, ids, 2000, 0) for scores in scored]
    return Curve(
        title="Bottleneck: score with k dimensions of the betas",
        x_label="k, principal components of the training betas",
        y_label="score",
        x=np.array(kept, np.float64),
        y=np.array([scores.mean() for scores in scored]),
        low=np.array([low for low, _ in limits]),
        high=np.array([high for _, high in limits]),
        n=np.array([len(scores) for scores in scored], dtype=np.intp),
    )
