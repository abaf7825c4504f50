"""Ridge by himalaya (Dupre la Tour et al. 2022), for who wants its solvers; an optional dependency."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.decoders.ridge_solver import Floats, Rows
from voxelight.models.errors import Unavailable


class _Folds:
    """Folds that are there already, in the form of scikit-learn's splitters."""

    def __init__(self, folds: Sequence[Rows]) -> None:
        self._folds = folds

    def split(self, *_: Any) -> Sequence[Rows]:
        return self._folds

    def get_n_splits(self, *_: Any) -> int:
        return len(self._folds)


def solve_by_himalaya(
    betas: Floats, targets: Floats, alphas: Sequence[float], folds: Sequence[Rows], per_target: bool, device: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients (voxel, target), intercepts (target,) and the penalty of each target (target,).

    Parameters
    ----------
    betas : array (trial, voxel)
    targets : array (trial, target)
    alphas : penalties
    folds : pairs of training rows and held-out rows; may be empty where there is one alpha
    per_target : whether every target has a penalty of its own
    device : ``cpu``, or ``cuda``, where himalaya's torch backend computes

    Raises
    ------
    Unavailable
        himalaya is not installed.
    """
    try:
        from himalaya.backend import get_backend, set_backend
        from himalaya.ridge import Ridge, solve_ridge_cv_svd
        from himalaya.scoring import l2_neg_loss
    except ImportError as error:
        raise Unavailable(
            f"no package himalaya ({error})", "what this backend computes with", "pip install 'voxelight[himalaya]'"
        ) from error
    before = get_backend().name
    backend = set_backend("numpy" if device == "cpu" else "torch_cuda")
    try:
        x, y = (backend.asarray(np.asarray(part, np.float64)) for part in (betas, targets))
        if len(alphas) > 1:
            best, *_ = solve_ridge_cv_svd(
                x, y, alphas=np.asarray(alphas), fit_intercept=True, score_func=l2_neg_loss,
                cv=_Folds(folds), local_alpha=per_target,
            )  # fmt: skip
            # It works with logarithms, so that a penalty comes back a rounding away from what was asked.
            found = np.broadcast_to(backend.to_numpy(best), targets.shape[1:])
            chosen = np.asarray(alphas, np.float64)[np.abs(np.subtract.outer(np.asarray(alphas), found)).argmin(axis=0)]
        else:
            chosen = np.full(targets.shape[1], float(alphas[0]))
        model = Ridge(alpha=backend.asarray(chosen), fit_intercept=True, solver="svd").fit(x, y)
        return backend.to_numpy(model.coef_), backend.to_numpy(model.intercept_), chosen
    finally:
        set_backend(before)
