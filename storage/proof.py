"""Search an installation for what was deleted: every row of every table, every stored file, every byte beside them.

Searched for: names of files and keys of items, words of labels, samples of the content of every file, vectors, and what
was sealed of headers. Content that was compressed or drawn anew is found where its file is: under its hash, or by what
the row says that names it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sqlalchemy import MetaData, inspect, select
from sqlalchemy.orm import Session

from voxelight.models.errors import NotFound
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.deletion import Extent, Removed
from voxelight.storage.erasure import list_words
from voxelight.storage.schema import Embedding, IdentityLink
from voxelight.storage.stores import Stores

KEPT_TABLES = ("receipt", "audit")  # what says that and what was deleted; a table is meant by how its name begins
_CHUNK = 8 << 20
_SAMPLE, _VARIED, _LOOKS = 64, 40, 24  # bytes of a piece, different ones in it, places that are tried
_SAMPLES_OF_ONE, _MOST_SAMPLES = 3, 400
_SHORTEST_LABEL, _SHORTEST_NAME = 3, 6
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SYSTEM_SCHEMAS = ("pg_catalog", "information_schema", "pg_toast")


@dataclass(frozen=True)
class Needles:
    """What is searched for.

    Parameters
    ----------
    samples : bytes -> what they are
    texts : names of files and keys of items that nothing else has
    labels : of subjects, that nobody else has
    sha256s : of the files
    skipped : in words, what can't be told from what stays
    """

    samples: dict[bytes, str]
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    sha256s: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many."""
        return sum(map(len, (self.samples, self.texts, self.labels, self.sha256s)))

    def in_bytes(self) -> dict[bytes, str]:
        """Return what is searched for among bytes; labels and hashes stand in receipts, and are left to the tables."""
        return {text.encode(): "a name" for text in self.texts} | self.samples

    def in_text(self) -> "re.Pattern[str]":
        """Return what finds names, labels as whole words, and hashes in the text of a row."""
        parts = [re.escape(text) for text in (*self.texts, *self.sha256s)]
        parts += [rf"(?<![A-Za-z0-9]){re.escape(label)}(?![A-Za-z0-9])" for label in self.labels]
        return re.compile("|".join(parts) or r"(?!)")


@dataclass
class Searched:
    """One place: what it is, how many things and bytes were looked through, and what was found in it."""

    place: str
    things: int = 0
    size: int = 0
    found: list[str] = field(default_factory=list)


def collect(session: Session, blobs: BlobStore, removed: Removed) -> Needles:
    """Return what to search for, while it is still there."""
    words, extent = list_words(session, removed.extent), removed.extent
    samples: dict[bytes, str] = {}
    step = max(1, len(removed.sha256s) * _SAMPLES_OF_ONE // _MOST_SAMPLES)
    for sha256 in removed.sha256s[::step]:
        with suppress(NotFound):
            samples |= dict.fromkeys(_sample(blobs, sha256), "content of a file")
    samples |= dict.fromkeys(_find_vectors(session, extent), "a vector")
    if extent.whole:
        for sealed in session.scalars(select(IdentityLink.sealed).where(IdentityLink.dataset_id == extent.dataset_id)):
            samples[sealed] = "a sealed identity"
    labels = tuple(sorted(label for label in words.labels if len(label) >= _SHORTEST_LABEL))
    texts = tuple(sorted(text for text in words.names | words.items if len(text) >= _SHORTEST_NAME))
    short = len(words.labels) - len(labels)
    shared = len({label for _, label in words.places}) - len(words.labels)
    skipped = [f"{short} labels of one or two letters, which stand in everything"] if short else []
    skipped += [f"{shared} labels that another subject has too"] if shared else []
    return Needles(samples, texts, labels, removed.sha256s, tuple(skipped))


def search(stores: Stores, needles: Needles) -> list[Searched]:
    """Look for it everywhere.

    Parameters
    ----------
    stores : of the installation; what lies beside the cache, its home folder, is looked through byte by byte
    needles : as `collect` gave them before the deletion
    """
    home = stores.cache.parent
    places: list[Callable[[], Searched]] = [
        lambda: _search_tables(stores, needles),
        lambda: _search_files("files of the database", _database_files(stores), needles),
        lambda: _search_blobs(stores, needles),
        *(
            (lambda name=name, folder=folder: _search_files(name, _walk(folder), needles))
            for name, folder in (
                ("index files of vectors", home / "vectors"),
                ("caches, checkpoints, sheets", stores.cache),
                ("uploads under way", home / "uploads"),
                ("spool", home / "spool"),
                ("trained segmentation models", stores.weights / "segmentation"),
                ("trained decoders", stores.weights / "decoders"),
            )
        ),
        lambda: _search_files("logs and all else in the home folder", _walk_rest(stores), needles),
    ]
    return [place() for place in places]


def _search_tables(stores: Stores, needles: Needles) -> Searched:
    """Look through every row of every table, those of the job engine too; receipts and audit log are kept by intent."""
    result, finds, raw = Searched("rows of all tables"), needles.in_text(), needles.in_bytes()
    known = inspect(stores.engine)
    schemas = known.get_schema_names() if stores.engine.dialect.name == "postgresql" else [None]
    for schema in schemas:
        if schema in _SYSTEM_SCHEMAS:
            continue
        tables = MetaData()
        tables.reflect(stores.engine, schema=schema)
        for table in tables.tables.values():
            if table.schema != schema or table.name.startswith(KEPT_TABLES):
                continue
            with stores.engine.connect().execution_options(stream_results=True) as connection:
                for row in connection.execute(select(table)):
                    result.things += 1
                    result.size += sum(len(value) for value in row if isinstance(value, str | bytes))
                    if _has(row, finds, raw):
                        result.found.append(f"a row of {table.name}")
    return result


def _has(row: Sequence[Any], finds: "re.Pattern[str]", raw: dict[bytes, str]) -> bool:
    if finds.search("\n".join(str(value) for value in row if value is not None and not isinstance(value, bytes))):
        return True
    return any(needle in value for value in row if isinstance(value, bytes | memoryview) for needle in raw)


def _search_blobs(stores: Stores, needles: Needles) -> Searched:
    """Look through the names of all stored files, and through what they hold."""
    result, gone = Searched("stored files"), set(needles.sha256s)
    for file in stores.blobs.list_stored():
        result.things += 1
        if file.name in gone:
            result.found.append(f"the file {file.name[:12]}")
        if _SHA256.fullmatch(file.name):
            with suppress(NotFound), stores.blobs.open(file.name) as content:
                _search_one(content, f"the file {file.name[:12]}", needles, result)
    return result


def _search_files(place: str, files: Iterable[Path], needles: Needles) -> Searched:
    result, gone = Searched(place), set(needles.sha256s)
    for path in files:
        try:
            with path.open("rb") as content:
                result.things += 1
                if any(sha256 in path.name for sha256 in gone):
                    result.found.append(f"{path.name}, named by a hash that went")
                _search_one(content, path.name, needles, result)
        except OSError:  # gone meanwhile, or no plain file
            continue
    return result


def _search_one(content: IO[bytes], name: str, needles: Needles, result: Searched) -> None:
    wanted = needles.in_bytes()
    longest = max(map(len, wanted), default=1)
    before, seen = b"", set()
    while chunk := content.read(_CHUNK):
        result.size += len(chunk)
        window = before + chunk
        seen |= {what for needle, what in wanted.items() if needle in window}
        before = window[-longest:]
    result.found += [f"{what} in {name}" for what in sorted(seen)]


def _sample(blobs: BlobStore, sha256: str) -> Iterator[bytes]:
    """Yield a few short pieces of a file that are too varied to stand elsewhere by chance, as runs of zeros do."""
    found = 0
    with blobs.open(sha256) as file:
        size = file.seek(0, 2)
        for place in range(1, _LOOKS + 1):
            file.seek(max(0, size * place // (_LOOKS + 1) - _SAMPLE // 2))
            piece = file.read(_SAMPLE)
            if len(set(piece)) >= _VARIED and found < _SAMPLES_OF_ONE:
                found += 1
                yield piece


def _find_vectors(session: Session, extent: Extent) -> set[bytes]:
    """Return the vectors that go, but for those that something that stays has too: the same words, for one."""
    own: dict[int, bytes] = {}
    for column, ids in ((Embedding.scan_id, extent.scans), (Embedding.run_id, extent.runs)):
        for chunk in _chunks(ids):
            rows = session.execute(select(Embedding.id, Embedding.vector).where(column.in_(chunk)))
            own |= {row.id: row.vector for row in rows}
    vectors = set(own.values())
    for chunk in _chunks(vectors):
        rows = session.execute(select(Embedding.id, Embedding.vector).where(Embedding.vector.in_(chunk)))
        vectors -= {vector for number, vector in rows if number not in own}
    return vectors


def _chunks(values: Iterable[Any]) -> Iterator[Sequence[Any]]:
    whole = sorted(values)
    return (whole[start : start + 500] for start in range(0, len(whole), 500))


def _database_files(stores: Stores) -> list[Path]:
    url = stores.engine.url
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return []
    path = Path(url.database)
    return sorted(path.parent.glob(f"{path.name}*"))


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _walk_rest(stores: Stores) -> Iterator[Path]:
    """Yield what else lies in the home folder; weights that were not trained here hold nothing of a person."""
    home, named = stores.cache.parent, set(_database_files(stores))
    others = (stores.cache, stores.weights, home / "vectors", home / "uploads", home / "spool", home / "blobs")
    for path in _walk(home):
        if path not in named and not any(path.is_relative_to(other) for other in others):
            yield path
