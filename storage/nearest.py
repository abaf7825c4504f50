"""Exact nearest neighbours among float16 vectors: a scan of bytes with a bound, then the vectors themselves.

In each part of an index a vector x is rounded to x̂ = D c: D the width of a step in each dimension, c whole numbers up
to 127. So is, for the scan, the query: D q to s p. By the inequality of Cauchy and Schwarz

    |<q, x> - s <p, c>| <= |q| |x - x̂| + |D q - s p| |c| <= b,

where b takes the largest |x - x̂| and |c| of the part. With t the k-th best true score found so far, only vectors with
s <p, c> >= t - b can be among the k best, and all of those are compared by their float16 values. The scan is repeated
with a longer list until none is left out, so the answer is that of comparing everything.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Halves = NDArray[np.float16]
LARGEST = 127
THREADS = 2
_AT_ONCE = 16  # dimensions; of a multiple of it, faiss multiplies whole numbers, as many at once as the processor can
_SLACK = 1e-5  # of |q|, for the rounding of all these sums themselves
_SHORTLIST = 64
_FEW_ROWS = 4_096  # no more are compared directly than are worth a scan


@dataclass(frozen=True, eq=False)
class Part:
    """Some vectors, mapped from the disk.

    Parameters
    ----------
    name : of its folder
    ids : array (n,), ascending
    vectors : array (n, dim), float16
    step : array (dim,), D
    error, longest : largest |x - x̂| and |c|
    codes : faiss index over c, filled up with zeros to a multiple of 16
    """

    name: str
    ids: Ids
    vectors: Halves
    step: NDArray[np.float32]
    error: float
    longest: float
    codes: Any

    def round_query(self, query: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, float]:
        """Return p, s and b of a query."""
        stretched = query.astype(np.float64) * self.step
        unit = float(np.abs(stretched).max()) / LARGEST or 1.0
        whole = np.rint(stretched / unit)
        size = float(np.linalg.norm(query))
        bound = size * self.error + float(np.linalg.norm(stretched - unit * whole)) * self.longest
        asked = np.zeros(self.codes.d, np.float32)
        asked[: len(query)] = whole
        return asked, unit, bound + _SLACK * size

    def shortlist(
        self, asked: NDArray[np.float32], length: int, chosen: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return the rows with the largest <p, c>, and those, the best first."""
        import faiss

        options = None
        if chosen is not None:
            bits = np.packbits(chosen, bitorder="little")
            parameters: Any = faiss.SearchParameters
            options = parameters(sel=faiss.IDSelectorBitmap(len(chosen), faiss.swig_ptr(bits)))
        scores, rows = self.codes.search(asked[np.newaxis], min(length, len(self.ids)), params=options)
        found = rows[0] >= 0
        return rows[0][found], scores[0][found]

    def score(self, query: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the true scores of rows."""
        scores: NDArray[np.float64] = self.vectors[rows].astype(np.float64) @ query.astype(np.float64)
        return scores


def search_parts(
    parts: Sequence[Part], query: NDArray[np.float32], k: int, allowed: Ids | None = None
) -> tuple[Ids, NDArray[np.float64]]:
    """Return the ids of the k vectors with the largest inner product, and those, the best first.

    Parameters
    ----------
    parts : to search together
    query : array (dim,)
    k : at most as many
    allowed : ids to choose among, ascending; None: all
    """
    chosen = [None if allowed is None else _among(part.ids, allowed) for part in parts]
    scans = [_Scan(part, query, mask) for part, mask in zip(parts, chosen, strict=True)]
    best = _Best(k)
    with ThreadPoolExecutor(THREADS) as pool:
        while due := [scan for scan in scans if scan.could_hold(best.worst)]:
            list(pool.map(_Scan.lengthen, due))
            for scan in due:
                best.offer(*scan.take(best.worst))
    return best.ids, best.scores


def open_codes(dim: int) -> Any:
    """Return an empty faiss index over whole numbers of a byte, filled up to a multiple of 16 dimensions."""
    import faiss

    padded = -(-dim // _AT_ONCE) * _AT_ONCE
    signed = faiss.ScalarQuantizer.QT_8bit_direct_signed
    return faiss.IndexScalarQuantizer(padded, signed, faiss.METRIC_INNER_PRODUCT)


class _Scan:
    """The scan of one part for one query, whose list grows until it is sure to hold what matters."""

    def __init__(self, part: Part, query: NDArray[np.float32], chosen: NDArray[np.bool_] | None) -> None:
        self._part, self._query, self._chosen = part, query, chosen
        self._rows_there = len(part.ids) if chosen is None else int(chosen.sum())
        self._asked, self._unit, self._bound = part.round_query(query)
        self._length = self._taken = 0
        self._rows: NDArray[np.intp] = np.empty(0, np.intp)
        self._scores: NDArray[np.float64] = np.empty(0)

    def could_hold(self, worst: float) -> bool:
        """Whether a vector that was not compared may still score as well as `worst`."""
        if self._taken < len(self._rows):
            return bool(self._scores[self._taken] + self._bound >= worst)
        if self._length >= self._rows_there:
            return False
        return self._length == 0 or bool(self._scores[-1] + self._bound >= worst)

    def lengthen(self) -> None:
        """Scan, or scan again for a list eight times as long where all of the last one was compared."""
        if self._taken < len(self._rows):
            return
        self._length = min(self._rows_there, max(_SHORTLIST, 8 * self._length))
        if self._length == self._rows_there <= _FEW_ROWS:
            self._rows = np.arange(len(self._part.ids)) if self._chosen is None else np.flatnonzero(self._chosen)
            self._scores = np.full(len(self._rows), np.inf)
        else:
            self._rows, scores = self._part.shortlist(self._asked, self._length, self._chosen)
            self._scores = self._unit * scores.astype(np.float64)
        self._taken = 0

    def take(self, worst: float) -> tuple[Ids, NDArray[np.float64]]:
        """Return ids and true scores of the next rows of the list: those that may score as well as `worst`."""
        last = int(np.searchsorted(-self._scores, -(worst - self._bound), side="right"))
        last = max(last, self._taken)
        rows = self._rows[self._taken : last]
        self._taken = last
        return self._part.ids[rows], self._part.score(self._query, rows)


class _Best:
    """The k best so far; equal scores in the order of their ids."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.ids: Ids = np.empty(0, np.int64)
        self.scores: NDArray[np.float64] = np.empty(0)

    @property
    def worst(self) -> float:
        """Score that a newcomer must reach."""
        return float(self.scores[-1]) if len(self.ids) == self._k else -np.inf

    def offer(self, ids: Ids, scores: NDArray[np.float64]) -> None:
        """Take what belongs to the best; the same vector may be offered again."""
        all_ids, places = np.unique(np.concatenate([self.ids, ids]), return_index=True)
        all_scores = np.concatenate([self.scores, scores])[places]
        order = np.lexsort((all_ids, -all_scores))[: self._k]
        self.ids, self.scores = all_ids[order], all_scores[order]


def _among(ids: Ids, allowed: Ids) -> NDArray[np.bool_]:
    if not len(allowed):
        return np.zeros(len(ids), bool)
    places = np.searchsorted(allowed, ids).clip(max=len(allowed) - 1)
    among: NDArray[np.bool_] = allowed[places] == ids
    return among
