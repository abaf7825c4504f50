"""Move an installation to another database and another blob store, and prove that both hold the same.

Files are copied first, each by its hash, so that a move that was cut off goes on with those that are missing. Then all
rows are copied in one transaction, compared with the source, and only then become visible. The source is only read.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Table, delete, inspect, select, text
from sqlalchemy.orm import Session

from voxelight.models.errors import Conflict, NotFound, Unavailable
from voxelight.storage.artifacts import CHUNK_BYTES, BlobStore
from voxelight.storage.database import MOVING, is_current, read_version, upgrade
from voxelight.storage.halfvec import HalfvecIndex
from voxelight.storage.portable import (
    Shape,
    Tally,
    in_blocks,
    list_shapes,
    read_counters,
    read_lines,
    reading_one_state,
    set_counters,
    take_tally,
    tallied,
    write_lines,
    writing_all_or_nothing,
)
from voxelight.storage.schema import Action, Base, Blob, EmbeddingSpace, Job, Project
from voxelight.storage.schema_access import DEFAULT_PROJECT
from voxelight.storage.schema_workers import QueueEntry

UNFINISHED = ("queued", "running")
_AT_ONCE = 8  # files; an object store answers many at a time

Progress = Callable[[str, int, int], None]


class Queues(Protocol):
    """The queues of a database."""

    def create_tables(self) -> None:
        """Create or migrate the tables of the job engine."""

    def enqueue(self, session: Session, job: Job) -> None:
        """Enqueue a job in a transaction."""

    def enqueue_action(self, session: Session, action: Action, queue: str) -> None:
        """Enqueue what was asked of a finished job, in a transaction."""


@dataclass(frozen=True)
class Place:
    """Where an installation lies: its database and its files."""

    engine: Engine
    blobs: BlobStore


@dataclass(frozen=True)
class TableProof:
    """A table on both sides: the number of its rows, and the sum of their hashes modulo 2^256."""

    table: str
    rows: int
    source: str
    target: str


@dataclass(frozen=True)
class Moved:
    """What was moved: every table with its proof; files with how many were copied now; jobs that wait again."""

    tables: list[TableProof] = field(default_factory=list)
    blobs: int = 0
    bytes: int = 0
    copied: int = 0
    requeued: list[str] = field(default_factory=list)
    graphs: list[str] = field(default_factory=list)


def move(
    source: Place, target: Place, name: str, queues: Queues, queued: bool = False, tell: Progress | None = None
) -> Moved:
    """Copy an installation to an empty place; a second time, go on where the first was cut off.

    Parameters
    ----------
    source, target : the two places; where both have one `BlobStore`, its files are only verified
    name : of the source, by which a move that was begun is known again
    queues : of the target
    queued : whether jobs and actions that wait or run are put on them; else they are refused
    tell : called with what is done, how much of it and of how much

    Raises
    ------
    Conflict
        The source is not up to date, has unfinished jobs or changes meanwhile; or the target holds something.
    Unavailable
        A file of the source is missing or damaged.
    BadInput
        The target does not take a row.
    """
    tell = tell or (lambda _what, _done, _total: None)
    _refuse_unready(source.engine, queued)
    prepare(target.engine, name)
    queues.create_tables()
    with reading_one_state(source.engine) as reading:
        sizes = {row.sha256: row.size for row in reading.execute(select(Blob.sha256, Blob.size))}
        copied = copy_blobs(sizes, source.blobs, target.blobs, tell)
        with writing_all_or_nothing(target.engine) as writing:
            shapes = list_shapes()
            empty(writing, shapes)
            proofs = _copy_rows(reading, writing, shapes, tell)
            _refuse_difference(proofs, source.engine)
            requeued = put_back(writing, queues) if queued else []
            writing.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": read_version(reading)})
    graphs = _build_graphs(source.engine, target.engine)
    return Moved(proofs, len(sizes), sum(sizes.values()), copied, requeued, graphs)


def _refuse_unready(engine: Engine, with_unfinished: bool) -> None:
    if not is_current(engine):
        raise Conflict("a source with older tables", "tables of this version", "Run: voxelight storage upgrade")
    with reading_one_state(engine) as reading:
        jobs = reading.execute(select(Job.id).where(Job.status.in_(UNFINISHED))).all()
        actions = reading.execute(select(Action.id).where(Action.status.in_(UNFINISHED))).all()
    waiting = len(jobs) + len(actions)
    if waiting and not with_unfinished:
        raise Conflict(
            f"{waiting} jobs and actions that wait or run",
            "none, or the wish to put them on the queues of the target",
            "Let them end, or stop the workers and add --queued: what is done is not done again.",
        )


def prepare(engine: Engine, name: str, revision: str = "head") -> None:
    """Give an empty database its tables, and mark it so that nobody opens it before all its rows are there.

    Parameters
    ----------
    engine : of the database
    name : of what is brought here; under the same name it may be begun again
    revision : of the tables

    Raises
    ------
    Conflict
        The database holds something, or something else is being brought there.
    """
    mark = f"{MOVING}{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    with engine.connect() as connection:
        version = read_version(connection)
        if version == mark:
            return
        if version is not None and version.startswith(MOVING):
            raise Conflict(
                "a database into which another installation is being moved", "an empty one", "Choose another one."
            )
        refuse_full(connection)
    upgrade(engine, revision)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :mark"), {"mark": mark})


def refuse_full(connection: Connection) -> None:
    """Refuse a database in which somebody has stored something.

    Raises
    ------
    Conflict
        It holds rows besides those that it was made with.
    """
    there = set(inspect(connection).get_table_names())
    for table in Base.metadata.sorted_tables:
        if table.name in there and connection.execute(_select_stored(table).limit(1)).first() is not None:
            raise Conflict(
                f"a target with rows in the table {table.name}",
                "an empty database",
                "Make a new one, so that nothing is mixed or overwritten.",
            )


def _select_stored(table: Table) -> Any:
    query = select(text("1")).select_from(table)
    return query.where(Project.name != DEFAULT_PROJECT) if table is Project.__table__ else query


def empty(connection: Connection, shapes: Sequence[Shape]) -> None:
    """Delete what the migrations put into the tables."""
    for shape in reversed(shapes):
        connection.execute(shape.table.delete())


def _copy_rows(reading: Connection, writing: Connection, shapes: Sequence[Shape], tell: Progress) -> list[TableProof]:
    proofs = []
    for number, shape in enumerate(shapes, 1):
        read = Tally()
        for lines in in_blocks(tallied(read_lines(reading, shape), read)):
            write_lines(writing, shape, lines)
        written = take_tally(writing, shape)
        proofs.append(TableProof(shape.name, read.rows, read.sha256_sum, written.sha256_sum))
        tell("tables", number, len(shapes))
    set_counters(writing, shapes, read_counters(reading, shapes))
    return proofs


def _refuse_difference(proofs: Sequence[TableProof], source: Engine) -> None:
    """Compare the target with what was read, and that with the source as it is by now."""
    differing = [proof.table for proof in proofs if proof.source != proof.target]
    if differing:
        raise Unavailable(
            f"other rows in the target than in the source, in {', '.join(differing)}",
            "the same",
            "Nothing was kept. Report this: it is a fault of the software.",
        )
    with reading_one_state(source) as reading:
        now = {shape.name: take_tally(reading, shape).sha256_sum for shape in list_shapes()}
    changed = [proof.table for proof in proofs if proof.source != now[proof.table]]
    if changed:
        raise Conflict(
            f"a source that was written to meanwhile, in {', '.join(changed)}",
            "one that nobody uses",
            "Stop its page and its workers and run the command again; files are not copied twice.",
        )


def put_back(writing: Connection, queues: Queues) -> list[str]:
    """Put jobs and actions that wait or run on the queues again, and return their ids."""
    with Session(writing, join_transaction_mode="create_savepoint") as session:
        jobs = session.scalars(select(Job).where(Job.status.in_(UNFINISHED)).order_by(Job.created_at)).all()
        actions = session.scalars(select(Action).where(Action.status.in_(UNFINISHED))).all()
        session.execute(delete(QueueEntry))  # a migration may have put them there already
        for job in jobs:
            queues.enqueue(session, job)
        for action in actions:
            queues.enqueue_action(session, action, action.job.queue)
        session.commit()
        return [*(str(job.id) for job in jobs), *(str(action.id) for action in actions)]


def _build_graphs(source: Engine, target: Engine) -> list[str]:
    """Index at the target the spaces that were indexed at the source; the index itself is not copied."""
    if source.dialect.name != "postgresql" or target.dialect.name != "postgresql":
        return []
    built, there, here = [], HalfvecIndex(source), HalfvecIndex(target)
    with Session(target) as session:
        for space in session.scalars(select(EmbeddingSpace)):
            if there.is_built(space):
                here.build(space)
                built.append(space.name)
    return built


def copy_blobs(
    sizes: dict[str, int], source: BlobStore, target: BlobStore, tell: Progress, verify_present: bool = True
) -> int:
    """Bring files to another store unless they are there, and verify each where it lies then.

    Parameters
    ----------
    sizes : sha256 -> bytes
    source, target : the stores; one and the same: verify only
    tell : called with bytes that are done
    verify_present : whether files that are there already are read as well

    Returns
    -------
    int
        How many were copied.

    Raises
    ------
    Unavailable
        A file of the source is missing or damaged.
    """
    copied, done, total = 0, 0, sum(sizes.values())
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for chunk in in_blocks(sizes.items()):
            for size, was_copied in pool.map(
                lambda each: _ensure(each[0], each[1], source, target, verify_present), chunk
            ):
                copied, done = copied + was_copied, done + size
                tell("files", done, total)
    return copied


def _ensure(sha256: str, size: int, source: BlobStore, target: BlobStore, verify_present: bool) -> tuple[int, bool]:
    if target.exists(sha256):
        if not verify_present or hash_blob(target, sha256) == sha256:
            return size, False
        if source is target:
            raise _damaged(sha256)
        target.remove(sha256)
    try:
        with source.open(sha256) as file, target.incoming() as incoming:
            while chunk := file.read(CHUNK_BYTES):
                incoming.write(chunk)
            if incoming.size == 0 or incoming.finish().sha256 != sha256:
                raise _damaged(sha256)
            target.put_file(incoming.path, sha256)
    except NotFound as missing:
        raise Unavailable(missing.found, missing.expected, missing.remedy) from missing
    if hash_blob(target, sha256) != sha256:
        raise _damaged(sha256)
    return size, True


def hash_blob(store: BlobStore, sha256: str) -> str:
    """Return the sha256 of what a store gives for a name."""
    digest = hashlib.sha256()
    with store.open(sha256) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _damaged(sha256: str) -> Unavailable:
    return Unavailable(
        f"a file whose content is not that of its name, {sha256[:12]}",
        "the content by whose hash it was stored",
        "Restore it from a backup; nothing was moved that depends on it.",
    )
