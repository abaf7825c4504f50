"""Embeddings: written beside the rows that they belong to, and found by nearness."""

import hashlib
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from voxelight.models.errors import Conflict, NotFound
from voxelight.storage.access import seeing_everything
from voxelight.storage.exact import ExactIndex, State
from voxelight.storage.nearest import Halves, Ids
from voxelight.storage.schema import Embedding, EmbeddingSpace
from voxelight.storage.stores import Stores

_BLOCK_ROWS = 8_192
_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True)
class Space:
    """Vectors that may be compared: its name says what made them; kind is `picture`, `text` or `case`."""

    name: str
    kind: str
    dim: int


@dataclass(frozen=True, eq=False)
class NewEmbedding:
    """A vector to keep.

    Parameters
    ----------
    space : that it lies in
    role : what was embedded: scan, reconstruction, stimulus, caption, tokens, case, labels
    vector : array (dim,), of any length but zero
    item : which of several, the stimulus for one
    artifact_id : the file that shows it
    """

    space: Space
    role: str
    vector: NDArray[np.floating[Any]]
    item: str = ""
    artifact_id: uuid.UUID | None = None


@dataclass(frozen=True)
class Owner:
    """Whose embeddings: a scan's, or those of a run on it."""

    scan_id: uuid.UUID
    run_id: uuid.UUID | None = None

    @property
    def id(self) -> uuid.UUID:
        """Id of the run, else of the scan."""
        return self.run_id or self.scan_id


def write_embeddings(session: Session, owner: Owner, found: Sequence[NewEmbedding], replace: bool = True) -> int:
    """Keep embeddings of a scan or a run, in place of those it had or beside them, and return how many came.

    A vector of zeros has no direction and is left out.

    Raises
    ------
    Conflict
        The space has vectors of another length.
    """
    with seeing_everything(session):  # a space is one row for all, and shows only to whoever has a vector in it
        ids = _find_ids(session, {each.space.name: each.space for each in found})
    before = select(Embedding.space_id).where(Embedding.owner == owner.id).distinct()
    _lock(session, {*ids.values(), *(session.scalars(before) if replace else ())})
    if replace:
        remove_embeddings(session, Embedding.owner == owner.id)
    rows = [
        Embedding(
            space_id=ids[each.space.name],
            owner=owner.id,
            role=each.role,
            item=each.item,
            scan_id=owner.scan_id,
            run_id=owner.run_id,
            artifact_id=each.artifact_id,
            vector=pack(each.vector),
        )
        for each in found
        if np.any(each.vector)
    ]
    session.add_all(rows)
    session.flush()
    return len(rows)


def remove_embeddings(session: Session, condition: ColumnElement[bool]) -> int:
    """Remove the embeddings that fit, and return how many there were; an index follows at its next use."""
    counts = session.execute(select(Embedding.space_id, func.count()).where(condition).group_by(Embedding.space_id))
    found: dict[int, int] = dict(sorted((space_id, count) for space_id, count in counts))
    for space_id in found:
        counted = {"changes": EmbeddingSpace.changes + 1, "removals": EmbeddingSpace.removals + 1}
        session.execute(update(EmbeddingSpace).where(EmbeddingSpace.id == space_id).values(**counted))
    if found:
        session.execute(delete(Embedding).where(condition))
    return sum(found.values())


def pack(vector: NDArray[np.floating[Any]]) -> bytes:
    """Return a vector as it is stored: unit length, little-endian float16."""
    wide = vector.astype(np.float64)
    return (wide / np.linalg.norm(wide)).astype("<f2").tobytes()


def unpack(stored: bytes) -> NDArray[np.float32]:
    """Return a vector as it was stored."""
    return np.frombuffer(stored, "<f2").astype(np.float32)


def find_space(session: Session, name: str) -> EmbeddingSpace:
    """Return a space by name.

    Raises
    ------
    NotFound
        Nothing was embedded in it.
    """
    space = session.scalar(select(EmbeddingSpace).where(EmbeddingSpace.name == name))
    if space is None:
        known = session.scalars(select(EmbeddingSpace.name).order_by(EmbeddingSpace.name)).all()
        raise NotFound(
            f"no vectors in the space {name!r}",
            f"one of {', '.join(known)}" if known else "something that was embedded",
            "Run a job, or embed what is stored already: voxelight search fill",
        )
    return space


class VectorStore:
    """Nearest neighbours in every space, by an index on this machine that follows the rows.

    Parameters
    ----------
    stores : whose rows
    folder : of the index files
    """

    def __init__(self, stores: Stores, folder: Path) -> None:
        self._stores = stores
        self._folder = folder
        self._open: dict[str, ExactIndex] = {}

    def search(
        self, space: EmbeddingSpace, query: NDArray[np.float32], k: int, allowed: ColumnElement[bool] | None = None
    ) -> list[tuple[int, float]]:
        """Return the k nearest embeddings with their cosines, the nearest first; exact.

        Parameters
        ----------
        space : as it is stored now
        query : array (dim,), of any length but zero
        k : at most as many
        allowed : condition on `Embedding`
        """
        index = self.follow(space)
        return self._answer(index, space, query, k, allowed)

    def follow(self, space: EmbeddingSpace, wholly: bool = False) -> ExactIndex:
        """Bring the index of a space up to date with its rows.

        Parameters
        ----------
        space : as it is stored now
        wholly : compare every id, whatever the counters say
        """
        index = self._find(space)
        state = index.read_state()
        if not wholly and (state.changes, state.removals) == (space.changes, space.removals):
            return index
        with index.changing(), self._stores.sessions() as session:
            # The counters before the rows: what comes between them is looked for once more, and found to be there.
            now = session.execute(
                select(EmbeddingSpace.changes, EmbeddingSpace.removals).where(EmbeddingSpace.id == space.id)
            ).one()
            state = index.read_state()
            removed = np.empty(0, np.int64)
            if wholly or now.removals != state.removals:
                removed = np.setdiff1d(index.list_ids(), self._list_ids(session, Embedding.space_id == space.id))
            if wholly or len(removed) or now.changes != state.changes:
                index.change(_read_after(session, space, state.last_id), removed, State(*now))
        return index

    def follow_all(self) -> None:
        """Bring every index up to date, id by id, and remove those whose space is gone."""
        with self._stores.sessions() as session:
            spaces = session.scalars(select(EmbeddingSpace)).all()
        for space in spaces:
            self.follow(space, wholly=True)
        kept = {self._name(space) for space in spaces}
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.name not in kept:
                    shutil.rmtree(folder)

    def _answer(
        self,
        index: ExactIndex,
        space: EmbeddingSpace,
        query: NDArray[np.float32],
        k: int,
        allowed: ColumnElement[bool] | None,
    ) -> list[tuple[int, float]]:
        chosen = None
        with self._stores.sessions() as session:
            if allowed is not None:
                chosen = self._list_ids(session, Embedding.space_id == space.id, allowed)
            for wholly in (False, True):
                ids, scores = index.search(_unit(query), k, chosen)
                there = set(session.scalars(select(Embedding.id).where(Embedding.id.in_(ids.tolist()))))
                if wholly or len(there) == len(ids):
                    break
                index = self.follow(space, wholly=True)  # rows went by a way that counts nothing, a cascade for one
        return [(int(one), float(score)) for one, score in zip(ids, scores, strict=True) if int(one) in there]

    def _find(self, space: EmbeddingSpace) -> ExactIndex:
        name = self._name(space)
        if name not in self._open:
            self._open[name] = ExactIndex(self._folder / name, space.dim)
        return self._open[name]

    @staticmethod
    def _name(space: EmbeddingSpace) -> str:
        """Name the folder of a space so that another database has others."""
        made = f"{space.name} {space.dim} {space.created_at.isoformat()}"
        return f"{space.id}-{hashlib.sha256(made.encode()).hexdigest()[:12]}"

    @staticmethod
    def _list_ids(session: Session, *conditions: ColumnElement[bool]) -> Ids:
        chosen = session.scalars(select(Embedding.id).where(*conditions).order_by(Embedding.id))
        return np.fromiter(chosen, np.int64)


def _find_ids(session: Session, spaces: dict[str, Space]) -> dict[str, int]:
    """Return the ids of spaces by name; what is new is made."""
    known = select(EmbeddingSpace.name, EmbeddingSpace.id, EmbeddingSpace.dim).where(EmbeddingSpace.name.in_(spaces))
    rows = session.execute(known).all()
    new = sorted(spaces.keys() - {row.name for row in rows})
    if new:
        insert = _INSERT[session.get_bind().dialect.name]
        values = [
            {"name": name, "kind": spaces[name].kind, "dim": spaces[name].dim, "changes": 0, "removals": 0}
            for name in new
        ]
        session.execute(insert(EmbeddingSpace).values(values).on_conflict_do_nothing())
        rows = session.execute(known).all()
    for row in rows:
        if row.dim != spaces[row.name].dim:
            raise Conflict(
                f"vectors of {spaces[row.name].dim} numbers for the space {row.name}",
                f"{row.dim}, as in the rest",
                "Give what makes other vectors another name.",
            )
    return {row.name: int(row.id) for row in rows}


def _lock(session: Session, ids: Collection[int]) -> None:
    """Hold spaces until the commit: one writer at a time, so ids grow as they commit.

    Everybody takes them in the order of their ids, so that no two wait for each other.
    """
    for space_id in sorted(ids):
        counted = update(EmbeddingSpace).where(EmbeddingSpace.id == space_id)
        session.execute(counted.values(changes=EmbeddingSpace.changes + 1))


def _read_after(session: Session, space: EmbeddingSpace, last_id: int) -> Iterator[tuple[Ids, Halves]]:
    """Yield the vectors of a space that came after an id, in blocks."""
    while True:
        after = select(Embedding.id, Embedding.vector).where(Embedding.space_id == space.id, Embedding.id > last_id)
        rows = session.execute(after.order_by(Embedding.id).limit(_BLOCK_ROWS)).all()
        if not rows:
            return
        vectors = np.frombuffer(b"".join(row.vector for row in rows), "<f2").reshape(len(rows), space.dim)
        yield np.array([row.id for row in rows], np.int64), vectors
        last_id = rows[-1].id


def _unit(query: NDArray[np.float32]) -> NDArray[np.float32]:
    wide = query.astype(np.float64)
    return (wide / np.linalg.norm(wide)).astype(np.float32)
