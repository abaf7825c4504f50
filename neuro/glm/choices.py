"""What is chosen for a session, enough to estimate each of its runs alone, and runs that took no part."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Choices:
    """What was chosen for a session, enough to estimate any run of it alone.

    Parameters
    ----------
    response : array (voxel,), number in the library
    gain : array (voxel,), log-likelihood of the best response above that of none
    r2 : array (voxel,), share of the variance that trials explain by it, in the runs themselves
    pool : array (voxel,), bool: gave noise components
    count : components that are taken out of each run
    count_scores : array (count + 1,), how well held-out runs were predicted, by the number of components; empty where
        it was not asked
    fraction : array (voxel,), of the length of betas
    fraction_scores : array (fraction, voxel); empty where it was not asked
    scale, offset : array (voxel,), bring shrunk betas to the size of unshrunk ones
    estimate : ``lsa``, ``lss`` or ``ridge``: as asked, or ``lss`` where no shrinkage could be chosen
    notes : what was skipped or left out, and why
    """

    response: NDArray[np.intp]
    gain: Floats
    r2: Floats
    pool: NDArray[np.bool_]
    count: int
    count_scores: Floats
    fraction: Floats
    fraction_scores: Floats
    scale: Floats
    offset: Floats
    estimate: str
    notes: tuple[str, ...] = ()
