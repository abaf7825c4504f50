"""Cases that stand apart from the others of their group."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST = 5  # with fewer cases, nothing can be said to stand apart
FAR = 3.5  # Iglewicz and Hoaglin 1993
_OF_MAD, _OF_MEAN_DEVIATION = 1.482602218505602, 1.2533141373155001  # to a standard deviation, of a normal sample


def robust_z(values: Sequence[float]) -> NDArray[np.float64]:
    r"""Return how far each value lies from the median, in robust standard deviations.

    :math:`z_i = (x_i - \tilde x) / (1.4826\,\mathrm{MAD})`, the modified z-score of Iglewicz and Hoaglin (1993). Where
    more than half of the values are equal, the MAD is zero; the mean absolute deviation times 1.2533 takes its place.

    Parameters
    ----------
    values : one a case, finite

    Returns
    -------
    array (case,), float64
        Zero throughout where there are fewer than five cases, or all are equal.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < FEWEST:
        return np.zeros(len(x))
    apart = x - np.median(x)
    spread = _OF_MAD * float(np.median(np.abs(apart))) or _OF_MEAN_DEVIATION * float(np.abs(apart).mean())
    return apart / spread if spread > 0 else np.zeros(len(x))
