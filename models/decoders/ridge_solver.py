"""The linear algebra of ridge regression, spelled alike for numpy arrays and torch tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any  # numpy.ndarray or torch.Tensor, never both in one call
Floats = NDArray[np.floating[Any]]
Rows = tuple[NDArray[np.intp], NDArray[np.intp]]

_COLUMNS_AT_ONCE = 16_384


@dataclass(frozen=True, eq=False)
class Factorisation:
    """All that ridge needs of the betas, whatever the targets and the penalty.

    With centred betas X of p voxels and n trials, K = X Xᵀ = Q Λ Qᵀ where n <= p, and XᵀX = V Λ Vᵀ otherwise.

    Parameters
    ----------
    mean : array (voxel,)
    basis : array (voxel, rank), Xᵀ Q or V
    eigenvalues : array (rank,), the diagonal of Λ
    projection : array (rank, trial), Qᵀ or Vᵀ Xᵀ
    """

    mean: Array
    basis: Array
    eigenvalues: Array
    projection: Array


def factorise(betas: Array) -> Factorisation:
    """Factorise the smaller Gram matrix of the centred betas.

    Parameters
    ----------
    betas : array (trial, voxel), float64
    """
    mean = betas.mean(0)
    centred = betas - mean
    wide = centred.shape[0] <= centred.shape[1]
    values, vectors = _linalg(betas).eigh(centred @ centred.T if wide else centred.T @ centred)
    basis, projection = (centred.T @ vectors, vectors.T) if wide else (vectors, vectors.T @ centred.T)
    return Factorisation(mean, basis, values.clip(0), projection)


def solve(factors: Factorisation, targets: Array, alphas: Array) -> tuple[Array, Array]:
    """Return the ridge coefficients and intercepts.

    W = B (Λ + α)⁻¹ P (Y - ȳ) minimises ||Y - ȳ - X W||² + α ||W||², the intercept is ȳ - x̄ W, unpenalised
    (Hoerl and Kennard 1970, eq. 2.1; the dual form: Saunders, Gammerman and Vovk 1998).

    Parameters
    ----------
    factors : from `factorise`
    targets : array (trial, target)
    alphas : array (target,)

    Returns
    -------
    coefficients : array (voxel, target)
    intercepts : array (target,)
    """
    centre = targets.mean(0)
    shrunk = (factors.projection @ (targets - centre)) / (factors.eigenvalues[:, None] + alphas[None, :])
    coefficients = factors.basis @ shrunk
    return coefficients, centre - factors.mean @ coefficients


def predict_path(factors: Factorisation, targets: Array, betas: Array, alphas: Sequence[float]) -> list[Array]:
    """Predict the targets of new betas for every alpha.

    Parameters
    ----------
    factors : from `factorise`, of the training betas
    targets : array (trial, target), of the training trials
    betas : array (new trial, voxel)
    alphas : the penalties

    Returns
    -------
    one array (new trial, target) for each alpha
    """
    centre = targets.mean(0)
    projected = factors.projection @ (targets - centre)
    scores = (betas - factors.mean) @ factors.basis
    return [(scores / (factors.eigenvalues + alpha)) @ projected + centre for alpha in alphas]


def smoothers(train: Floats, test: Floats, alphas: Sequence[float]) -> NDArray[np.float64]:
    """Return the matrices that carry training targets to predictions, the same for any targets.

    The prediction is linear in the targets, so its matrix is the prediction of the identity; each row sums to one.

    Parameters
    ----------
    train, test : array (trial, voxel)
    alphas : the penalties

    Returns
    -------
    array (alpha, test trial, training trial), float64
    """
    train, test = train.astype(np.float64), test.astype(np.float64)
    return np.stack(predict_path(factorise(train), np.eye(len(train)), test, alphas))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What cross-validation measures of every alpha and target.

    Parameters
    ----------
    errors : array (alpha, target), squared errors summed over held-out trials
    sums, squares : array (alpha, target), held-out predictions less `shift`, and their squares, summed
    shift : array (target,)
    trials : how many were held out
    """

    errors: Array
    sums: Array
    squares: Array
    shift: Array
    trials: int

    @classmethod
    def start(cls, alphas: int, shift: Array, trials: int) -> "HeldOut":
        """Return sums of nothing yet."""
        errors, sums, squares = (_zeros((alphas, len(shift)), like=shift) for _ in range(3))
        return cls(errors, sums, squares, shift, trials)

    def add(self, row: int, columns: slice, errors: Array, sums: Array, squares: Array) -> None:
        """Add the sums of some held-out trials for one alpha, arrays (target,)."""
        self.errors[row, columns] += errors
        self.sums[row, columns] += sums
        self.squares[row, columns] += squares

    def moments(self, place: Any) -> tuple[Array, Array]:
        """Return mean and standard deviation of the predictions of each target, by the row of its alpha."""
        columns = np.arange(self.errors.shape[1])
        mean = self.sums[place, columns] / self.trials
        return mean + self.shift, (self.squares[place, columns] / self.trials - mean**2).clip(0) ** 0.5


def cross_validate(betas: Array, targets: Array, folds: Sequence[Rows], alphas: Sequence[float]) -> HeldOut:
    """Predict held-out rows for every alpha, each fold factorised once.

    Parameters
    ----------
    betas : array (trial, voxel)
    targets : array (trial, target)
    folds : pairs of training rows and held-out rows
    alphas : the penalties
    """
    found = HeldOut.start(len(alphas), targets.mean(0), sum(len(test) for _, test in folds))
    for train, test in folds:
        factors = factorise(betas[train])
        for start in range(0, targets.shape[1], _COLUMNS_AT_ONCE):
            columns = slice(start, start + _COLUMNS_AT_ONCE)
            path = predict_path(factors, targets[train][:, columns], betas[test], alphas)
            for row, predicted in enumerate(path):
                errors = ((predicted - targets[test][:, columns]) ** 2).sum(0)
                above = predicted - found.shift[columns]
                found.add(row, columns, errors, above.sum(0), (above**2).sum(0))
    return found


def _linalg(array: Array) -> Any:
    if isinstance(array, np.ndarray):
        return np.linalg
    import torch

    return torch.linalg


def _zeros(shape: tuple[int, int], like: Array) -> Array:
    return np.zeros(shape) if isinstance(like, np.ndarray) else like.new_zeros(shape)
