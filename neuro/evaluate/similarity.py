"""How close reconstructions are to what was seen."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.intp]


def correlate(predicted: Floats, pictures: Floats) -> NDArray[np.float64]:
    """Correlate every prediction with every picture over pixels and channels (Pearson).

    Parameters
    ----------
    predicted : array (item, ...)
    pictures : array (stimulus, ...), the same shape behind the first axis

    Returns
    -------
    array (item, stimulus), 0 where one of both is constant
    """
    rows, columns = _centre(predicted), _centre(pictures)
    norms = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(columns, axis=1)
    return _ratio(rows @ columns.T, norms)


def correlate_by_gram(mixing: Floats, gram: Floats) -> NDArray[np.float64]:
    """Correlate predictions that are mixtures of the pictures, without forming them.

    With pictures C, each centred over its pixels, predictions M C and Gram matrix G = C Cᵀ:
    r[i, j] = (M G)[i, j] / sqrt((M G Mᵀ)[i, i] G[j, j]).

    Parameters
    ----------
    mixing : array (..., item, stimulus)
    gram : array (..., stimulus, stimulus)

    Returns
    -------
    array (..., item, stimulus), 0 where one of both is constant
    """
    crossed = mixing @ gram
    squares = np.einsum("...ij,...ij->...i", crossed, mixing).clip(0)
    diagonal = np.einsum("...jj->...j", gram)
    return _ratio(crossed, np.sqrt(squares)[..., None] * np.sqrt(diagonal)[..., None, :])


def two_way(correlations: Floats, own: Places) -> Floats:
    """Two-way identification of each prediction.

    The share of the other pictures that correlate less with the prediction than the picture that was seen; ties count
    half. Chance without any training is .5 (e.g. Ozcelik and VanRullen 2023, "2-way").

    Parameters
    ----------
    correlations : array (..., item, stimulus), from `correlate`
    own : array (item,), the column of the picture that was seen

    Returns
    -------
    array (..., item)
    """
    true = own_correlation(correlations, own)[..., None]
    below: Floats = (correlations < true).sum(-1) + 0.5 * ((correlations == true).sum(-1) - 1)
    shares: Floats = below / (correlations.shape[-1] - 1)
    return shares


def own_correlation(correlations: Floats, own: Places) -> Floats:
    """Correlation of each prediction with the picture that was seen: array (..., item)."""
    found: Floats = correlations[..., np.arange(len(own)), own]
    return found


METRICS: dict[str, Callable[[Floats, Places], Floats]] = {"two_way": two_way, "pixel_correlation": own_correlation}


def _centre(images: Floats) -> Floats:
    flat = images.reshape(len(images), -1).astype(np.float64)
    centred: Floats = flat - flat.mean(1, keepdims=True)
    return centred


def _ratio(products: Floats, norms: Floats) -> NDArray[np.float64]:
    # Centring leaves rounding errors of a constant picture: its norm is never quite zero.
    safe = norms > 1e-12 * max(1.0, float(norms.max(initial=0)))
    return np.divide(products, norms, out=np.zeros(np.broadcast_shapes(products.shape, norms.shape)), where=safe)
