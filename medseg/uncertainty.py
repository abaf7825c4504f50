"""How much an uncertainty is worth: the risk that is left when the least certain voxels are set aside."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.medseg.evaluate import paired_difference
from voxelight.models.errors import BadInput


def entropy(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    r"""Return :math:`-\sum_k p_k \ln p_k` of each voxel.

    Parameters
    ----------
    probabilities : array (label, ...)

    Returns
    -------
    array (...), nats
    """
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1)
    return np.asarray(-(p * np.log(p)).sum(axis=0))


def risk_coverage(
    uncertainty: NDArray[np.floating[Any]], wrong: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of voxels that are kept, surest first, and the share of errors among those kept.

    Voxels of one uncertainty are kept or set aside together, so that their order does not matter (El-Yaniv and Wiener
    2010).

    Parameters
    ----------
    uncertainty, wrong : arrays of one shape

    Returns
    -------
    coverage, risk : arrays (point,), coverage rising to 1
    """
    if uncertainty.shape != wrong.shape or uncertainty.size == 0:
        raise BadInput(
            f"an uncertainty of shape {uncertainty.shape} and errors of shape {wrong.shape}",
            "one shape, not empty",
            "Compute both on one grid.",
        )
    values, inverse, counts = np.unique(uncertainty.ravel(), return_inverse=True, return_counts=True)
    errors = np.bincount(inverse.ravel(), weights=wrong.ravel().astype(float), minlength=len(values))
    kept = counts.cumsum()
    return kept / uncertainty.size, errors.cumsum() / kept


def area_under_risk(uncertainty: NDArray[np.floating[Any]], wrong: NDArray[np.bool_]) -> float:
    """Return the mean risk over all coverages (AURC); smaller is better, and the overall risk is that of a constant."""
    coverage, risk = risk_coverage(uncertainty, wrong)
    return float(np.sum(risk * np.diff(coverage, prepend=0.0)))


def choose_uncertainty(
    areas: Mapping[str, Mapping[str, float]], person_of: Mapping[str, str], seed: int, usual: str = "entropy"
) -> str:
    """Return which uncertainty is shown: another than the usual one only where it is better than each of the rest.

    Parameters
    ----------
    areas : uncertainty -> case -> area under its risk-coverage curve
    person_of : case -> person
    seed : of the resampling
    usual : what is shown unless another earns it; a key of `areas`

    Raises
    ------
    BadInput
        The usual one is not among them.
    """
    if usual not in areas:
        raise BadInput(f"the uncertainties {', '.join(areas)}", f"{usual} among them", "Score it as well.")
    for name, ours in areas.items():
        rest = [theirs for other, theirs in areas.items() if other != name]
        if name != usual and all(paired_difference(ours, theirs, person_of, seed).high < 0 for theirs in rest):
            return name
    return usual
