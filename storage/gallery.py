"""An index of a folder of pictures, or of vectors, that a person builds and asks for what is near."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage.exact import ExactIndex, State
from voxelight.storage.nearest import Halves, Ids

Floats = NDArray[np.floating[Any]]
Method = Literal["exact", "approximate"]

APPROXIMATE_ABOVE = 1_000_000
RECALL_AT = 10
_WANTED_RECALL = 0.95
_ASKED = 200  # of the vectors themselves, to measure recall by
_BLOCK = 8_192
_FACTS, _NAMES, _EXACT, _LISTS = "index.json", "names.jsonl", "exact", "lists.faiss"


class GalleryFacts(BaseModel):
    """What is known of an index.

    Parameters
    ----------
    space : what made the vectors; a query must come from the same
    dim, count : numbers of a vector, and vectors
    method : ``exact`` compares everything; ``approximate`` looks into some lists of like vectors only
    recall : share of the true ten nearest that an approximate search finds, measured on vectors of the index with
        themselves left out; 1 where it is exact
    lists, probes : of the approximate index: lists, and how many a search looks into
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str
    dim: PositiveInt
    count: PositiveInt
    method: Method
    recall: float = 1.0
    lists: NonNegativeInt = 0
    probes: NonNegativeInt = 0


class Gallery:
    """An index on the disk, open for questions.

    Parameters
    ----------
    folder : that `build_gallery` wrote

    Raises
    ------
    NotFound
        There is none.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / _FACTS).is_file():
            raise NotFound(f"no index in {folder}", "a folder that voxelight index build wrote", "Build it first.")
        self.facts = GalleryFacts.model_validate_json((folder / _FACTS).read_text())
        self._exact = ExactIndex(folder / _EXACT, self.facts.dim)
        self._exact.read_state()
        self._names = [json.loads(line) for line in (folder / _NAMES).read_text("utf-8").splitlines()]
        self._lists: Any = None
        if self.facts.method == "approximate":
            import faiss

            self._lists = faiss.read_index(str(folder / _LISTS), faiss.IO_FLAG_MMAP)
            self._lists.nprobe = self.facts.probes

    def search(self, query: Floats, k: int = 10, space: str | None = None) -> list[tuple[str, float]]:
        """Return names and cosines of the k nearest, the nearest first.

        Parameters
        ----------
        query : array (dim,), of any length but zero
        k : at most as many
        space : of the query, where it is known

        Raises
        ------
        BadInput
            The query is of another space or size, zero, or not finite; or k is not positive.
        """
        if space is not None and space != self.facts.space:
            raise BadInput(
                f"a query of {space}",
                f"one of {self.facts.space}",
                "Embed it as the index was, or build another index.",
            )
        if query.shape != (self.facts.dim,) or not np.isfinite(query).all() or not np.any(query) or k < 1:
            raise BadInput(
                f"a query of shape {query.shape} for {k} neighbours",
                f"{self.facts.dim} finite numbers, not all zero, for one or more",
                "Embed it as the index was.",
            )
        ids, scores = self._exact.search(_unit(query[None])[0], k, self._shortlist(query, k))
        return [(self._names[one], float(score)) for one, score in zip(ids, scores, strict=True)]

    def _shortlist(self, query: Floats, k: int) -> Ids | None:
        """Return the ids worth comparing; None: all."""
        if self._lists is None:
            return None
        _, found = self._lists.search(_unit(query[None]), min(4 * max(k, RECALL_AT), self.facts.count))
        return np.unique(found[found >= 0])


def build_gallery(
    folder: Path, space: str, named: Iterable[tuple[Sequence[str], Floats]], method: Method | None = None
) -> GalleryFacts:
    """Write an index, whole or not at all.

    Parameters
    ----------
    folder : of the index; must not be there
    space : what made the vectors
    named : blocks of names and their vectors, array (row, dim), of any length but zero
    method : left out, exact up to a million vectors and approximate above

    Raises
    ------
    Conflict
        The folder is there.
    BadInput
        There is no vector, or one that is zero or not finite.
    """
    if folder.exists():
        raise Conflict(f"a folder {folder}", "none yet", "Name another, or move this one away.")
    stage = folder.with_name(f".building-{folder.name}")
    shutil.rmtree(stage, ignore_errors=True)  # of a build that was killed
    stage.mkdir(parents=True)
    try:
        facts = _write(stage, space, named, method)
        (stage / _FACTS).write_text(facts.model_dump_json(indent=2))
        stage.rename(folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return facts


def _write(
    stage: Path, space: str, named: Iterable[tuple[Sequence[str], Floats]], method: Method | None
) -> GalleryFacts:
    blocks = iter(named)
    first = next(blocks, None)
    if first is None or not len(first[1]):
        raise BadInput("no vector", "one or more", "Name a folder with pictures, or an array with rows.")
    dim = int(first[1].shape[1])
    index, count = ExactIndex(stage / _EXACT, dim), 0
    with (stage / _NAMES).open("w", encoding="utf-8") as names, index.changing():

        def number() -> Iterator[tuple[Ids, Halves]]:
            nonlocal count
            for some, vectors in chain([first], blocks):
                _check(some, vectors, dim)
                names.writelines(f"{json.dumps(name)}\n" for name in some)
                ids = np.arange(count, count + len(vectors), dtype=np.int64)
                count += len(vectors)
                yield ids, _unit(vectors).astype(np.float16)

        index.change(number(), np.empty(0, np.int64), State(changes=1))
    chosen: Method = method or ("approximate" if count > APPROXIMATE_ABOVE else "exact")
    if chosen == "exact":
        return GalleryFacts(space=space, dim=dim, count=count, method="exact")
    lists, probes, recall = _build_lists(stage / _LISTS, index, dim, count)
    return GalleryFacts(
        space=space, dim=dim, count=count, method="approximate", recall=recall, lists=lists, probes=probes
    )


def _build_lists(path: Path, index: ExactIndex, dim: int, count: int) -> tuple[int, int, float]:
    """Write lists of like vectors (inverted file over k-means); return how many, how many to look into, and recall."""
    import faiss

    total = max(1, min(int(4 * count**0.5), count // 39 or 1))
    quantizer: Any = faiss.IndexFlatIP(dim)
    lists: Any = faiss.IndexIVFScalarQuantizer(
        quantizer, dim, total, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    generator = np.random.default_rng(0)
    # k-means wants 39 vectors a list or more, and learns no more from above 256.
    seen = np.sort(generator.choice(count, min(count, 64 * total), replace=False))
    lists.train(_read(index, seen))
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        lists.add(_read(index, rows))
    asked = np.sort(generator.choice(count, min(_ASKED, count), replace=False))
    queries = _read(index, asked)
    true = [set(index.search(query, RECALL_AT + 1)[0].tolist()) for query in queries]
    probes, recall = 1, 0.0
    while True:
        lists.nprobe = probes
        _, found = lists.search(queries, 4 * RECALL_AT)
        shares = [
            _share(wanted, got, own) for wanted, got, own in zip(true, found.tolist(), asked.tolist(), strict=True)
        ]
        recall = float(np.mean(shares))
        if recall >= _WANTED_RECALL or probes >= total:
            break
        probes = min(2 * probes, total)
    faiss.write_index(lists, str(path))
    return total, probes, recall


def _share(wanted: set[int], found: Sequence[int], own: int) -> float:
    """Return the share of the nearest, itself left out, that is among what was found and will be compared."""
    nearest = wanted - {own}
    return len(nearest & set(found)) / max(1, len(nearest))


def _read(index: ExactIndex, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.concatenate([block.astype(np.float32) for block in index.read(ids)])


def _check(names: Sequence[str], vectors: Floats, dim: int) -> None:
    if vectors.ndim != 2 or vectors.shape != (len(names), dim):
        raise BadInput(
            f"vectors of shape {vectors.shape} under {len(names)} names",
            f"({len(names)}, {dim})",
            "Give one vector a name, all of one size.",
        )
    unfit = ~np.isfinite(vectors).all(axis=1) | ~np.any(vectors, axis=1)
    if unfit.any():
        shown = ", ".join(islice((names[row] for row in np.flatnonzero(unfit).tolist()), 3))
        raise BadInput(
            f"{int(unfit.sum())} vectors that are zero or not finite, {shown} for one",
            "vectors with a direction",
            "Leave them out.",
        )


def _unit(vectors: Floats) -> NDArray[np.float32]:
    wide = np.asarray(vectors, np.float64)
    unit: NDArray[np.float32] = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return unit
