"""Vectors of one space in memory-mapped files, kept in step with the rows that they come from.

The files come in parts, each written once and never changed, and in a list that names those in force. Who searches an
old part keeps it until the next look at the list; nobody waits for a writer.
"""

import fcntl
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.storage.nearest import LARGEST, Halves, Ids, Part, open_codes, search_parts

PART_ROWS = 65_536
_BLOCK_ROWS = 8_192
_LIST = "parts.json"


@dataclass(frozen=True)
class State:
    """What an index holds: the counters of its space when it was last brought up to date, and the newest id."""

    changes: int = 0
    removals: int = 0
    last_id: int = 0


class ExactIndex:
    """The vectors of one space on the disk of this machine, searched exactly by inner product.

    Parameters
    ----------
    folder : made when it is not there; several processes may share it
    dim : length of a vector
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self._folder = folder
        self._dim = dim
        self._seen: tuple[int, int] | None = None
        self._parts: tuple[Part, ...] = ()
        self._state = State()
        folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return sum(len(part.ids) for part in self._parts)

    def read_state(self) -> State:
        """Look at the list of parts again, and return what they hold."""
        path = self._folder / _LIST
        try:
            seen = path.stat()
        except FileNotFoundError:
            self._parts, self._state, self._seen = (), State(), None
            return self._state
        if self._seen != (seen.st_ino, seen.st_mtime_ns):
            content = json.loads(path.read_text())
            known = {part.name: part for part in self._parts}
            self._parts = tuple(known.get(name) or self._open(name) for name in content["parts"])
            self._state = State(**content["state"])
            self._seen = (seen.st_ino, seen.st_mtime_ns)
        return self._state

    def list_ids(self) -> Ids:
        """Return the id of every vector, ascending."""
        self.read_state()
        return np.sort(np.concatenate([part.ids for part in self._parts])) if self._parts else np.empty(0, np.int64)

    def read(self, ids: Ids) -> Iterator[Halves]:
        """Yield the vectors of ids, which ascend and are all there, part by part."""
        self.read_state()
        for part in self._parts:
            rows = np.searchsorted(part.ids, ids[(ids >= part.ids[0]) & (ids <= part.ids[-1])])
            if len(rows):
                yield part.vectors[rows]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the index against changes by others while the block runs."""
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.read_state()
            yield

    def change(self, added: Iterator[tuple[Ids, Halves]], removed: Ids, state: State) -> None:
        """Add vectors and take others away, all at once; call it inside `changing`.

        Parameters
        ----------
        added : blocks of ids, which grow and are larger than any that is there, with their vectors
        removed : ids to take away
        state : what the index holds afterwards; the newest id is set here
        """
        kept = [part for part in self._parts if not np.isin(part.ids, removed).any()]
        thinned = [part for part in self._parts if part not in kept]
        made: list[Part] = []
        for part in thinned:
            stay = ~np.isin(part.ids, removed)
            if stay.any():
                made.append(self._write(part.ids[stay], part.vectors[stay]))
        last = self._state.last_id
        for ids, vectors in self._gather(added, kept):
            made.append(self._write(ids, vectors))
            last = max(last, int(ids[-1]))
        self._publish(
            sorted([*kept, *made], key=lambda part: int(part.ids[0])), State(state.changes, state.removals, last)
        )

    def search(self, query: NDArray[np.float32], k: int, allowed: Ids | None = None) -> tuple[Ids, NDArray[np.float64]]:
        """Return the ids of the k vectors with the largest inner product, and those, the best first.

        Parameters
        ----------
        query : array (dim,)
        k : at most as many
        allowed : ids to choose among, ascending; None: all

        Raises
        ------
        BadInput
            The query has another length or is not finite.
        """
        if query.shape != (self._dim,) or not np.isfinite(query).all():
            raise BadInput(
                f"a query of shape {query.shape}", f"{self._dim} finite numbers", "Embed it in the space of the index."
            )
        return search_parts(self._parts, query.astype(np.float32), k, allowed)

    def _gather(self, added: Iterator[tuple[Ids, Halves]], kept: list[Part]) -> Iterator[tuple[Ids, Halves]]:
        """Join blocks to parts of up to `PART_ROWS`, with the small parts at the end that are worth joining."""
        ids: list[Ids] = []
        vectors: list[Halves] = []
        waiting = 0
        for new_ids, new_vectors in added:
            if not len(new_ids):
                continue
            if not waiting and not ids:
                for part in _take_small(kept, len(new_ids)):
                    ids.append(part.ids)
                    vectors.append(np.asarray(part.vectors))
                    waiting += len(part.ids)
            ids.append(new_ids)
            vectors.append(new_vectors)
            waiting += len(new_ids)
            while waiting >= PART_ROWS:
                all_ids, all_vectors = np.concatenate(ids), np.concatenate(vectors)
                yield all_ids[:PART_ROWS], all_vectors[:PART_ROWS]
                ids, vectors, waiting = [all_ids[PART_ROWS:]], [all_vectors[PART_ROWS:]], waiting - PART_ROWS
        if waiting:
            yield np.concatenate(ids), np.concatenate(vectors)

    def _write(self, ids: Ids, vectors: Halves) -> Part:
        """Write a part beside the others; it is seen once the list names it."""
        import faiss

        name = uuid.uuid4().hex
        folder = self._folder / name
        folder.mkdir()
        blocks = [slice(start, start + _BLOCK_ROWS) for start in range(0, len(ids), _BLOCK_ROWS)]
        peaks = np.max([np.abs(vectors[block]).max(axis=0) for block in blocks], axis=0).astype(np.float32)
        step = np.where(peaks > 0, peaks / LARGEST, 1).astype(np.float32)
        codes = open_codes(self._dim)
        error = longest = 0.0
        for block in blocks:
            exact = vectors[block].astype(np.float32)
            whole = np.rint(exact / step).clip(-LARGEST, LARGEST)
            error = max(error, float(np.linalg.norm(exact - whole * step, axis=1).max()))
            longest = max(longest, float(np.linalg.norm(whole, axis=1).max()))
            padded = np.zeros((len(whole), codes.d), np.float32)
            padded[:, : self._dim] = whole
            codes.add(padded)
        faiss.write_index(codes, str(folder / "codes.faiss"))
        for file, array in (("ids", ids), ("vectors", vectors), ("step", step)):
            np.save(folder / f"{file}.npy", array)
        (folder / "bounds.json").write_text(json.dumps({"error": error, "longest": longest}))
        return self._open(name)

    def _open(self, name: str) -> Part:
        import faiss

        folder = self._folder / name
        return Part(
            name=name,
            ids=np.load(folder / "ids.npy"),
            vectors=np.load(folder / "vectors.npy", mmap_mode="r"),
            step=np.load(folder / "step.npy"),
            **json.loads((folder / "bounds.json").read_text()),
            codes=faiss.read_index(str(folder / "codes.faiss"), faiss.IO_FLAG_MMAP_IFC),
        )

    def _publish(self, parts: Sequence[Part], state: State) -> None:
        names = [part.name for part in parts]
        temporary = self._folder / f".{_LIST}"
        temporary.write_text(json.dumps({"parts": names, "state": state.__dict__}))
        temporary.replace(self._folder / _LIST)
        for folder in self._folder.iterdir():
            if folder.is_dir() and folder.name not in names:
                shutil.rmtree(folder)
        self.read_state()


def _take_small(kept: list[Part], arriving: int) -> list[Part]:
    """Take the parts at the end that are no larger than twice what comes after them, so that each row moves seldom."""
    taken: list[Part] = []
    after = arriving
    while kept and len(kept[-1].ids) <= 2 * after and len(kept[-1].ids) + after <= PART_ROWS:
        taken.insert(0, kept.pop())
        after += len(taken[0].ids)
    return taken
