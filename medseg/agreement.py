"""Whether two readers say the same, beyond what chance gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput

_Z = 1.959963984540054  # 97.5 % of a normal distribution lie below


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa with its interval.

    Parameters
    ----------
    kappa : 1 for full agreement, 0 for what chance gives; NaN where both readers use one and the same word for all
    low, high : 95 % interval; NaN with kappa
    observed, expected : share of items with equal words, and what the readers' habits alone would give
    items : that both have read
    words : the words, in the order of the table
    table : items by the word of the first reader (row) and of the second (column)
    """

    kappa: float
    low: float
    high: float
    observed: float
    expected: float
    items: int
    words: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]


def cohen_kappa(first: Sequence[str], second: Sequence[str], words: Sequence[str]) -> Agreement:
    r"""Compare two readers of the same items, :math:`\kappa = (p_o - p_e) / (1 - p_e)` (Cohen 1960, equation 1).

    The interval is the one of large samples (Fleiss, Cohen and Everitt 1969). Where the readers agree on
    every item it would have no width; its low end is then that of Wilson's interval of the observed agreement (Wilson
    1927), with the expected agreement as observed.

    Parameters
    ----------
    first, second : the word of each reader for each item, in one order
    words : every word that a reader may use

    Returns
    -------
    Agreement

    Raises
    ------
    BadInput
        There is no item, the readers' lists differ in length, or a word is not among the words.
    """
    strange = sorted({*first, *second} - set(words))
    if not first or len(first) != len(second) or strange:
        raise BadInput(
            f"{len(first)} and {len(second)} items{f', and the words {strange}' if strange else ''}",
            f"the same items, at least one, each with one of {', '.join(words)}",
            "Compare only what both have read.",
        )
    place = {word: number for number, word in enumerate(words)}
    table = np.zeros((len(words), len(words)), dtype=np.int64)
    for ours, theirs in zip(first, second, strict=True):
        table[place[ours], place[theirs]] += 1
    share = table / table.sum()
    observed, expected = float(np.trace(share)), float(share.sum(axis=1) @ share.sum(axis=0))
    kappa, low, high = _find_interval(share, observed, expected, len(first))
    return Agreement(kappa, low, high, observed, expected, len(first), tuple(words), tuple(map(tuple, table.tolist())))


def _find_interval(
    share: NDArray[np.float64], observed: float, expected: float, items: int
) -> tuple[float, float, float]:
    if math.isclose(expected, 1):
        return math.nan, math.nan, math.nan
    kappa = (observed - expected) / (1 - expected)
    if math.isclose(observed, 1):
        lowest = 1 / (1 + _Z**2 / items)
        return 1.0, (lowest - expected) / (1 - expected), 1.0
    rows, columns = share.sum(axis=1), share.sum(axis=0)
    same = np.diag(share) @ (1 - (rows + columns) * (1 - kappa)) ** 2
    apart = share * (columns[:, np.newaxis] + rows[np.newaxis, :]) ** 2
    np.fill_diagonal(apart, 0)
    variance = same + (1 - kappa) ** 2 * apart.sum() - (kappa - expected * (1 - kappa)) ** 2
    half = _Z * math.sqrt(max(0.0, variance) / items) / (1 - expected)
    return kappa, max(-1.0, kappa - half), min(1.0, kappa + half)
