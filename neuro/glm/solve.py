"""Least squares for single trials: all at once, one against the rest, and shrunk."""

import warnings
from typing import Any

import numpy as np
from fracridge import fracridge
from numpy.typing import NDArray

from voxelight.models.errors import BadInput

Floats = NDArray[np.floating[Any]]

_RANK = 1e-10


def remove(basis: Floats, columns: Floats) -> NDArray[np.float64]:
    """Return columns without what lies in an orthonormal basis: array (volume, column)."""
    columns = np.asarray(columns, dtype=np.float64)
    left: NDArray[np.float64] = columns - basis @ (basis.T @ columns)
    return left


def solve_all(design: Floats, bold: Floats) -> NDArray[np.float64]:
    """Return the betas of all trials together (least squares all, LSA).

    Parameters
    ----------
    design : array (volume, trial), without nuisance
    bold : array (volume, voxel), without nuisance

    Returns
    -------
    array (trial, voxel)

    Raises
    ------
    BadInput
        There are more trials than volumes to tell them apart.
    """
    gram = design.T @ design
    values, vectors = np.linalg.eigh(gram)
    if values[0] <= _RANK * values[-1]:
        raise BadInput(
            f"{design.shape[1]} trials in {design.shape[0]} volumes, which can't be told apart",
            "responses that differ, and more volumes than trials and confounds",
            "Look for events at one time, use fewer confounds, or estimate by lss.",
        )
    betas: NDArray[np.float64] = vectors @ ((vectors.T @ (design.T @ bold)) / values[:, None])
    return betas


def solve_separately(design: Floats, bold: Floats) -> NDArray[np.float64]:
    """Return each trial's beta from a model of two regressors: the trial, and the sum of all others (LSS).

    The models of all trials are solved in closed form: with t the trial and o the others, the 2 x 2 normal equations
    need no more than the Gram matrix of the design and its products with the signal.

    Parameters
    ----------
    design : array (volume, trial), without nuisance
    bold : array (volume, voxel), without nuisance

    Returns
    -------
    array (trial, voxel)

    References
    ----------
    Mumford et al. (2012), NeuroImage 59:2636.
    """
    gram, products = design.T @ design, design.T @ bold
    own = np.diag(gram)
    shared = gram.sum(1) - own  # <t, o>
    others = gram.sum() - 2 * gram.sum(1) + own  # <o, o>
    rest = products.sum(0) - products  # <o, y>
    if len(own) == 1:
        return np.asarray(products / own[:, None])
    determinant = own * others - shared**2
    if (determinant <= _RANK * own * others).any():
        raise BadInput(
            "a trial whose response can't be told from that of all others",
            "responses that differ",
            "Look for a run of two trials at one time.",
        )
    betas: NDArray[np.float64] = (others[:, None] * products - shared[:, None] * rest) / determinant[:, None]
    return betas


def solve_ridge(design: Floats, bold: Floats, fractions: Floats) -> NDArray[np.float64]:
    """Return betas shrunk to fractions of their unshrunk length (fractional ridge).

    Parameters
    ----------
    design : array (volume, trial), without nuisance
    bold : array (volume, voxel), without nuisance
    fractions : array (fraction,), rising, above 0 and up to 1

    Returns
    -------
    array (trial, fraction, voxel)

    References
    ----------
    Rokem and Kay (2020), GigaScience 9:giaa133.
    """
    # A voxel without signal has no length to shrink.
    alive = np.linalg.norm(design.T @ bold, axis=0) > 0
    betas = np.zeros((design.shape[1], len(fractions), bold.shape[1]))
    if alive.any():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Some eigenvalues are being treated as 0")
            betas[:, :, alive] = fracridge(design, bold[:, alive], np.asarray(fractions), jit=False)[0]
    return betas
