"""The Gram matrix of ridge regression, and the matrices that carry targets to coefficients and to predictions."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sharing:
    """Which trials share a target.

    Parameters
    ----------
    rows : array (trial,), the target of each trial
    total : number of targets
    """

    rows: NDArray[np.intp]
    total: int

    def select(self, trials: NDArray[np.intp]) -> "Sharing":
        """Return that of some trials."""
        return Sharing(self.rows[trials], self.total)

    def counts(self) -> NDArray[np.intp]:
        """Return how many trials each target has."""
        return np.bincount(self.rows, minlength=self.total)

    def gather(self, columns: Tensor) -> Tensor:
        """Sum the columns (.., trial) of trials that share a target: (.., target)."""
        if len(self.rows) == self.total and np.array_equal(self.rows, np.arange(self.total)):
            return columns
        place = torch.as_tensor(self.rows, device=columns.device)
        return columns.new_zeros(len(columns), self.total).index_add_(1, place, columns)


class Gram:
    """The smaller Gram matrix of centred betas: K = XXᵀ where there are no more trials than voxels, else XᵀX.

    Parameters
    ----------
    betas : tensor (trial, voxel), float64
    """

    def __init__(self, betas: Tensor) -> None:
        self.mean = betas.mean(0)
        self._centred = betas - self.mean
        self._wide = betas.shape[0] <= betas.shape[1]
        self._matrix = self._centred @ self._centred.T if self._wide else self._centred.T @ self._centred

    def hat(self, alpha: float, sharing: Sharing) -> Tensor:
        """Return (XᵀX + αI)⁻¹Xᵀ, tensor (voxel, target), whose product with targets is the coefficients."""
        factor = self._factorise(alpha)
        if self._wide:
            return sharing.gather(torch.cholesky_solve(self._centred, factor).T)
        return torch.cholesky_solve(sharing.gather(self._centred.T), factor)

    def smoother(self, alpha: float, betas: Tensor, sharing: Sharing) -> Tensor:
        """Return the matrix (new trial, target) whose product with targets predicts those of new betas.

        Its rows sum to one, so that an offset of the targets passes through.
        """
        factor, new = self._factorise(alpha), betas - self.mean
        share = torch.as_tensor(sharing.counts() / len(self._centred), device=new.device, dtype=new.dtype)
        if self._wide:
            return sharing.gather(torch.cholesky_solve(self._centred @ new.T, factor).T) + share
        return torch.cholesky_solve(new.T, factor).T @ sharing.gather(self._centred.T) + share

    def _factorise(self, alpha: float) -> Tensor:
        penalised = self._matrix.clone()
        penalised.diagonal().add_(alpha)
        factor: Tensor = torch.linalg.cholesky(penalised)
        return factor
