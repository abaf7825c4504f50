"""Approximate nearest neighbours on PostgreSQL: pgvector's half-precision vectors under an HNSW graph.

Vectors are copied into a table of their own, beside `embedding`, whose rows take theirs along when they go. One partial
index a space covers them, since only vectors of one length can be indexed together.
"""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Float,
    column,
    literal_column,
    select,
    table,
    text,
)

from voxelight.models.errors import NotInstalled
from voxelight.storage.nearest import Ids
from voxelight.storage.schema import Embedding, EmbeddingSpace

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_END = struct.pack(">h", -1)
_BLOCK_ROWS = 4_096
_LOCK = 0x766F79
_MOST_DIMENSIONS = 4_000  # that pgvector indexes in half precision
_TABLE = """
CREATE TABLE IF NOT EXISTS embedding_halfvec (
  id bigint PRIMARY KEY REFERENCES embedding (id) ON DELETE CASCADE,
  space_id bigint NOT NULL,
  value halfvec NOT NULL
)
"""
_PLACES = "CREATE INDEX IF NOT EXISTS ix_embedding_halfvec_space_id_id ON embedding_halfvec (space_id, id)"


class HalfvecIndex:
    """The graph of each space, in the database.

    Parameters
    ----------
    engine : of a PostgreSQL database with the extension `vector`
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def build(self, space: EmbeddingSpace) -> None:
        """Copy the vectors of a space and index them; a second time, only what is new.

        Raises
        ------
        NotInstalled
            The database is no PostgreSQL with pgvector, or the vectors are longer than it indexes.
        """
        self._require(space)
        with self._engine.begin() as connection:
            # One at a time: two that create what is not there yet would get into each other's way.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
            connection.execute(text(_TABLE))
            connection.execute(text(_PLACES))
            self._copy(connection, space)
            connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
            connection.execute(
                text(
                    f"CREATE INDEX IF NOT EXISTS ix_embedding_halfvec_{int(space.id)} ON embedding_halfvec "
                    f"USING hnsw ((value::halfvec({int(space.dim)})) halfvec_ip_ops) WHERE space_id = {int(space.id)}"
                )
            )
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE embedding_halfvec"))

    def is_built(self, space: EmbeddingSpace) -> bool:
        """Whether a space has its graph."""
        if self._engine.dialect.name != "postgresql":
            return False
        with self._engine.connect() as connection:
            name = f"ix_embedding_halfvec_{int(space.id)}"
            return bool(connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}))

    def search(
        self,
        space: EmbeddingSpace,
        query: NDArray[np.float32],
        k: int,
        allowed: ColumnElement[bool] | None = None,
        breadth: int = 100,
    ) -> list[tuple[int, float]]:
        """Return about the k nearest embeddings with their cosines, the nearest first.

        Parameters
        ----------
        space : as it is stored now
        query : array (dim,), unit length
        k : at most as many
        allowed : condition on `Embedding`
        breadth : candidates that the search keeps (`hnsw.ef_search`); more is slower and misses less

        Raises
        ------
        NotInstalled
            The space has no graph.
        """
        if not self.is_built(space):
            raise NotInstalled(
                f"no graph of the space {space.name}",
                "one that was built, on PostgreSQL with pgvector",
                "Search exactly, or build it: voxelight search graph",
            )
        # Written out, for the planner to see the very expression that is indexed.
        dim = int(space.dim)
        asked = f"[{','.join(map(str, query.astype(np.float16).tolist()))}]"
        other = text(f"CAST(:query AS halfvec({dim}))").bindparams(query=asked)
        nearness = literal_column(f"(value::halfvec({dim}))", Float).op("<#>", return_type=Float())(other)
        chosen = (
            select(literal_column("id", BigInteger), nearness.label("distance"))
            .select_from(table("embedding_halfvec"))
            .where(text(f"space_id = {int(space.id)}"))
            .order_by(text("distance"))
            .limit(k)
        )
        if allowed is not None:
            among = select(Embedding.id).where(Embedding.space_id == space.id, allowed)
            chosen = chosen.where(column("id").in_(among))
        with self._engine.begin() as connection:
            self._copy(connection, space)
            connection.execute(text(f"SET LOCAL hnsw.ef_search = {min(1000, max(int(k), int(breadth)))}"))
            connection.execute(text("SET LOCAL hnsw.iterative_scan = strict_order"))
            found = connection.execute(chosen).all()
        return [(int(row[0]), -float(row[1])) for row in found]

    def _require(self, space: EmbeddingSpace) -> None:
        expected = "PostgreSQL with the extension vector (pgvector 0.8 or newer)"
        remedy = "Search exactly, which every database can; or set VOXELIGHT_DATABASE_URL to such a server."
        if self._engine.dialect.name != "postgresql":
            raise NotInstalled(f"a {self._engine.dialect.name} database", expected, remedy)
        with self._engine.connect() as connection:
            if not connection.scalar(text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")):
                raise NotInstalled("a PostgreSQL server without pgvector", expected, remedy)
        if space.dim > _MOST_DIMENSIONS:
            raise NotInstalled(
                f"vectors of {space.dim} numbers", f"at most {_MOST_DIMENSIONS}, for a graph", "Search exactly."
            )

    @staticmethod
    def _copy(connection: Connection, space: EmbeddingSpace) -> None:
        """Copy vectors that came since the last time; one at a time, and nobody waits where there is none."""
        last, locked = _find_last(connection, space), False
        newer = select(Embedding.id, Embedding.vector).where(Embedding.space_id == space.id)
        while True:
            after = newer.where(Embedding.id > last).order_by(Embedding.id)
            rows = connection.execute(after.limit(_BLOCK_ROWS)).all()
            if not rows:
                return
            if not locked:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                last, locked = _find_last(connection, space), True
                continue
            ids = np.array([row.id for row in rows], np.int64)
            vectors = np.frombuffer(b"".join(row.vector for row in rows), "<f2").reshape(len(rows), space.dim)
            driver = connection.connection.driver_connection
            assert driver is not None
            with driver.cursor().copy(
                "COPY embedding_halfvec (id, space_id, value) FROM STDIN (FORMAT binary)"
            ) as copy:
                copy.write(b"".join(_encode(ids, vectors, int(space.id))))
            last = rows[-1].id


def _find_last(connection: Connection, space: EmbeddingSpace) -> int:
    newest = text("SELECT coalesce(max(id), 0) FROM embedding_halfvec WHERE space_id = :space")
    return int(connection.scalar(newest, {"space": space.id}) or 0)


def _encode(ids: Ids, vectors: NDArray[np.float16], space_id: int) -> Iterator[bytes]:
    """Yield rows in the binary form of COPY: numbers and vectors with the high byte first."""
    yield _SIGNATURE
    dim = vectors.shape[1]
    big = vectors.astype(">f2")
    for one, vector in zip(ids.tolist(), big, strict=True):
        yield struct.pack(">hiqiqihh", 3, 8, one, 8, space_id, 4 + 2 * dim, dim, 0)
        yield vector.tobytes()
    yield _END
