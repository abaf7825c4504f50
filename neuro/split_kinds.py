"""Splits that ask how far a decoder generalises, as LAION-fMRI has them: clusters, a gap, and what is out of the way.

The published files name the pictures of each part; where they lie beside the data they are used. The makers here are
for any other data set. How the published ones were made was not known where this was written: that of the gap is a
reading of its name.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from voxelight.models.errors import BadInput

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]

CLUSTERS = 5
KINDS = (*(f"cluster_k{CLUSTERS}_{number}" for number in range(CLUSTERS)), "tau", "ood")
_NEAREST, _FEWEST = 5, 3
_ROUNDS, _STARTS = 50, 10


def make_parts(kind: str, vectors: Floats, share: float, seed: int) -> tuple[Rows, Rows, str]:
    """Share pictures out by what they look like.

    Parameters
    ----------
    kind : ``cluster_k5_N``, the N-th largest of five clusters held out whole; ``tau``, a random share, with every other
        picture left out that is liker to one of them than tau, half of them having one; ``ood``, those that are least
        like their five nearest
    vectors : array (picture, dim), what they look like
    share : of the pictures to be held out, three at least; clusters have the size that they have
    seed : of clusters and draws

    Returns
    -------
    rows that are held out, rows that are in no part, and in words how they were chosen

    Raises
    ------
    BadInput
        The kind is unknown, or there are too few pictures.
    """
    count = len(vectors)
    if kind not in KINDS or count < 2 * CLUSTERS:
        known = ", ".join(KINDS)
        raise BadInput(f"the split {kind!r} of {count} pictures", f"one of {known}, of {2 * CLUSTERS} or more",
                       "Name another, or add pictures.")  # fmt: skip
    none = np.array([], np.intp)
    if kind.startswith("cluster"):
        found = _cluster(np.asarray(vectors, np.float64), seed)
        order = np.argsort(-np.bincount(found, minlength=CLUSTERS), kind="stable")
        number = int(kind.rpartition("_")[2])
        rows = np.flatnonzero(found == order[number])
        return rows, none, f"{len(rows)} of {count} pictures, cluster {number} of {CLUSTERS} by size, seed {seed}"
    likeness = _compare(vectors)
    size = max(_FEWEST, round(share * count))
    if kind == "ood":
        nearest = np.sort(likeness, axis=1)[:, -_NEAREST:].mean(1)
        rows = np.sort(np.argsort(nearest, kind="stable")[:size])
        return rows, none, f"the {size} of {count} pictures that are least like their {_NEAREST} nearest"
    rows = np.sort(np.random.default_rng(seed).choice(count, size, replace=False))
    others = np.setdiff1d(np.arange(count), rows)
    tau = float(np.median(likeness[np.ix_(rows, others)].max(1)))
    near = others[likeness[np.ix_(rows, others)].max(0) > tau]
    told = f"{size} of {count} pictures, drawn by seed {seed}"
    return rows, near, f"{told}; {len(near)} others that are liker to one of them than {tau:.3f} are in no part"


def _cluster(vectors: NDArray[np.float64], seed: int) -> NDArray[np.intp]:
    """Return the cluster of every vector, by the best of several starts of k-means."""
    random = np.random.default_rng(seed)
    tried = [kmeans2(vectors, CLUSTERS, iter=_ROUNDS, minit="++", rng=random) for _ in range(_STARTS)]
    spread = [float(((vectors - centres[found]) ** 2).sum()) for centres, found in tried]
    best: NDArray[np.intp] = tried[int(np.argmin(spread))][1].astype(np.intp)
    return best


def _compare(vectors: Floats) -> NDArray[np.float64]:
    """Return cosines of centred vectors, a picture being no likeness of itself: array (picture, picture)."""
    centred = np.asarray(vectors, np.float64) - vectors.mean(0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(norms > 0, norms, 1)
    likeness: NDArray[np.float64] = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    return likeness
