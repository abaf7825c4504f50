"""Backups: the rows of one state and the files that they name, by their hashes, in a folder or an object store.

A place holds many backups. Their contents lie side by side by hash, so a later one adds only what is new. One file in
`snapshots` describes each backup, under a name that ends with the hash of that file.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import select

from voxelight.models.errors import BadInput, NotFound, Unavailable
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.database import read_version
from voxelight.storage.moving import Place, Progress, copy_blobs, hash_blob
from voxelight.storage.portable import (
    Shape,
    Tally,
    in_blocks,
    list_shapes,
    read_counters,
    read_lines,
    reading_one_state,
    tallied,
)
from voxelight.storage.schema import Blob, utc_now

FORMAT = 1
PART_LINES = 20_000
_TRIES = 3
_NAME_DIGITS = 16


class KeptTable(BaseModel):
    """A table of a backup: its columns, how many rows it has, the sum of their hashes, and where they lie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    rows: int
    sha256_sum: str
    parts: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """The table as it is read and written."""
        return Shape(self.name, self.columns, self.key)


class KeptFile(BaseModel):
    """A file of the home folder: its place in it, and its content by hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str
    size: int


class Snapshot(BaseModel):
    """One backup. `revision` names the migration that its tables are of, `keys` whether secrets are among its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    software: str
    revision: str
    taken_at: str
    database: str
    tables: tuple[KeptTable, ...]
    counters: dict[str, int]
    blobs: int
    bytes: int
    files: tuple[KeptFile, ...]
    keys: bool


@dataclass(frozen=True)
class Taken:
    """A backup that was taken: its name, what it describes, and how many contents were new."""

    name: str
    snapshot: Snapshot
    added: int


@dataclass(frozen=True)
class Besides:
    """Files of the home folder that are kept too, and whether secrets are among them."""

    home: Path
    paths: tuple[Path, ...] = ()
    keys: bool = False


class BackupPlace:
    """A folder or an object store with backups.

    Parameters
    ----------
    url : folder or fsspec URL
    contents : a `BlobStore` with that very root, which seals what it keeps where it has a key
    options : passed to fsspec
    """

    def __init__(self, url: str, contents: BlobStore, options: dict[str, Any] | None = None) -> None:
        self.contents = contents
        self._fs, root = fsspec.core.url_to_fs(url, **(options or {}))
        self._folder = f"{root}/snapshots"

    def list(self) -> list[str]:
        """Return the names of the backups, the oldest first."""
        if not self._fs.exists(self._folder):
            return []
        names = [path.rsplit("/", 1)[1] for path in self._fs.ls(self._folder, detail=False)]
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def read(self, name: str | None = None) -> tuple[str, Snapshot]:
        """Return a backup, the newest unless one is named.

        Raises
        ------
        NotFound
            There is none of this name.
        Unavailable
            Its description is not what was written.
        """
        names = self.list()
        if not names or (name is not None and name not in names):
            raise NotFound(
                f"no backup{f' {name!r}' if name else ''}",
                f"one of {', '.join(names[-5:]) or 'none yet'}",
                "Name another place or backup.",
            )
        name = name or names[-1]
        with self._fs.open(f"{self._folder}/{name}.json", "rb") as file:
            content = file.read()
        if not name.endswith(hashlib.sha256(content).hexdigest()[:_NAME_DIGITS]):
            raise _damaged(f"the description of the backup {name}, which was changed or cut short")
        try:
            snapshot = Snapshot.model_validate_json(content)
        except ValidationError as error:
            raise BadInput(
                f"a backup of another form ({error.error_count()} fields)",
                f"form {FORMAT}",
                "Restore it with the version of the software that wrote it.",
            ) from error
        return name, snapshot

    def write(self, snapshot: Snapshot) -> str:
        """Make a backup visible, and return its name."""
        content = json.dumps(snapshot.model_dump(mode="json"), indent=1, sort_keys=True).encode()
        # To the microsecond: names of two backups of one second stand in their order.
        stamp = snapshot.taken_at.partition("+")[0].replace("-", "").replace(":", "")
        name = f"{stamp}Z-{hashlib.sha256(content).hexdigest()[:_NAME_DIGITS]}"
        self._fs.makedirs(self._folder, exist_ok=True)
        temporary = f"{self._folder}/{name}.part"
        with self._fs.open(temporary, "wb") as file:
            file.write(content)
        self._fs.mv(temporary, f"{self._folder}/{name}.json")
        return name

    def remove(self, name: str) -> None:
        """Forget a backup; its contents stay until they are swept."""
        self._fs.rm_file(f"{self._folder}/{name}.json")


def take_backup(source: Place, place: BackupPlace, besides: Besides, software: str, tell: Progress) -> Taken:
    """Keep one state of an installation, which may be in use meanwhile.

    Parameters
    ----------
    source : database and files
    place : where it is kept
    besides : files that no row names
    software : version that takes it
    tell : called with what is done

    Raises
    ------
    Unavailable
        A file that a row names is missing or damaged.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            return _take(source, place, besides, software, tell)
        except Unavailable as error:
            # Deleted between the look at its row and the look at its file: the next state does not name it.
            if not tries_left or not isinstance(error.__cause__, NotFound):
                raise
    raise AssertionError


def _take(source: Place, place: BackupPlace, besides: Besides, software: str, tell: Progress) -> Taken:
    # First: the newest event that the log knows of must be one of the rows.
    files = tuple(_keep_file(place.contents, besides.home, path) for path in besides.paths)
    with reading_one_state(source.engine) as reading:
        taken_at = utc_now().isoformat(timespec="microseconds")
        sizes = {row.sha256: row.size for row in reading.execute(select(Blob.sha256, Blob.size))}
        added = copy_blobs(sizes, source.blobs, place.contents, tell, verify_present=False)
        shapes, tables = list_shapes(), []
        for number, shape in enumerate(shapes, 1):
            counted = Tally()
            lines = tallied(read_lines(reading, shape), counted)
            parts = tuple(_keep(place.contents, block) for block in in_blocks(lines, PART_LINES))
            tables.append(
                KeptTable(
                    name=shape.name,
                    columns=shape.columns,
                    key=shape.key,
                    rows=counted.rows,
                    sha256_sum=counted.sha256_sum,
                    parts=parts,
                )
            )
            tell("tables", number, len(shapes))
        snapshot = Snapshot(
            format=FORMAT,
            software=software,
            revision=read_version(reading) or "",
            taken_at=taken_at.partition("+")[0],
            database=reading.dialect.name,
            tables=tuple(tables),
            counters=read_counters(reading, shapes),
            blobs=len(sizes),
            bytes=sum(sizes.values()),
            files=files,
            keys=besides.keys,
        )
    return Taken(place.write(snapshot), snapshot, added)


def _keep(contents: BlobStore, lines: Sequence[str]) -> str:
    packed = gzip.compress("\n".join(lines).encode(), 6, mtime=0)  # the same rows give the same bytes
    return contents.put_bytes(packed).sha256


def _keep_file(contents: BlobStore, home: Path, path: Path) -> KeptFile:
    ref = contents.put_file(path)
    return KeptFile(path=path.relative_to(home).as_posix(), sha256=ref.sha256, size=ref.size)


def read_part(contents: BlobStore, sha256: str) -> list[str]:
    """Return the lines of one part of a table, after a look at its hash.

    Raises
    ------
    Unavailable
        It is missing, or is not what was kept.
    """
    try:
        packed = contents.read(sha256)
    except NotFound as error:
        raise _damaged(f"no part {sha256[:12]} of a table") from error
    if hashlib.sha256(packed).hexdigest() != sha256:
        raise _damaged(f"a part {sha256[:12]} of a table that was changed")
    return gzip.decompress(packed).decode().split("\n")


def read_table(contents: BlobStore, table: KeptTable) -> Iterator[str]:
    """Yield the rows of a table of a backup as lines."""
    for part in table.parts:
        yield from read_part(contents, part)


def verify_backup(place: BackupPlace, snapshot: Snapshot, tell: Progress) -> dict[str, int]:
    """Read a whole backup and compare it with its hashes.

    Returns
    -------
    dict
        sha256 -> bytes of the files that its rows name.

    Raises
    ------
    Unavailable
        Something is missing or was changed.
    """
    sizes: dict[str, int] = {}
    for table in snapshot.tables:
        counted = Tally()
        for line in tallied(read_table(place.contents, table), counted):
            if table.name == Blob.__tablename__:
                row = table.shape.unpack(line)
                sizes[row["sha256"]] = row["size"]
        if (counted.rows, counted.sha256_sum) != (table.rows, table.sha256_sum):
            raise _damaged(f"{counted.rows} rows of {table.name}, not the {table.rows} that were kept")
    if len(sizes) != snapshot.blobs:
        raise _damaged(f"{len(sizes)} files, not the {snapshot.blobs} that were kept")
    copy_blobs(sizes, place.contents, place.contents, tell)
    for file in snapshot.files:
        if not place.contents.exists(file.sha256) or hash_blob(place.contents, file.sha256) != file.sha256:
            raise _damaged(f"no {file.path} as it was kept")
    return sizes


def prune(place: BackupPlace, keep: int, older_than_s: float) -> tuple[list[str], list[str]]:
    """Forget all backups but the newest, and sweep what none of those left needs.

    Parameters
    ----------
    place : of the backups
    keep : how many are left
    older_than_s : younger contents stay, which may belong to a backup that is being taken

    Returns
    -------
    (list of str, list of str)
        The backups and the contents that are gone.
    """
    gone = place.list()[:-keep]
    for name in gone:
        place.remove(name)
    return gone, place.contents.sweep(lambda: _find_named(place), older_than_s)


def _find_named(place: BackupPlace) -> set[str]:
    named: set[str] = set()
    for name in place.list():
        _, snapshot = place.read(name)
        named.update(file.sha256 for file in snapshot.files)
        for table in snapshot.tables:
            named.update(table.parts)
            if table.name == Blob.__tablename__:
                named.update(table.shape.unpack(line)["sha256"] for line in read_table(place.contents, table))
    return named


def _damaged(found: str) -> Unavailable:
    return Unavailable(found, "a backup as it was taken", "Nothing was written. Restore another backup.")
