"""What a folder of weights says about itself: licences agreed to, files fetched, parts converted.

``accepted/NAME.json``, ``fetched/NAME/fetched.json`` beside the file, and ``NAME/manifest.json`` beside the parts.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from voxelight.models.errors import Conflict, Refused, Unavailable
from voxelight.models.published import PublishedFile

CHUNK_BYTES = 8 << 20
Dtype = Literal["keep", "float16", "bfloat16"]


class Record(BaseModel):
    """Base of what is written down."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Acceptance(Record):
    """That somebody agreed to a licence: to which and when. Who is not written down."""

    name: str
    licence: str
    url: str
    time: datetime


class StoredFile(Record):
    """A file with its hash and its size in bytes."""

    file: str
    sha256: str
    size: int


class Fetched(Record):
    """A published file on this machine: where it came from and what it hashed to when it came."""

    name: str
    repository: str
    revision: str
    stored: StoredFile
    time: datetime


class PartRecord(Record):
    """A converted part: the network that takes it, its sizes, and the files."""

    network: str
    config: dict[str, Any]
    tensors: int
    elements: int
    files: tuple[StoredFile, ...]

    @property
    def sha256(self) -> str:
        """Hash of the part: of the lines that ``sha256sum`` prints for its files."""
        lines = "".join(f"{file.sha256}  {file.file}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


class Manifest(Record):
    """What a conversion was made from and what it gave."""

    format: Literal[1] = 1
    name: str
    dtype: Dtype
    time: datetime
    sources: tuple[Fetched, ...]
    accepted: tuple[Acceptance, ...]
    parts: dict[str, PartRecord]
    vocabulary: StoredFile | None = None


R = TypeVar("R", bound=Record)


def find_manifest(folder: Path, name: str) -> Manifest | None:
    """Return what the conversion of published weights left, if there was one.

    Raises
    ------
    Conflict
        The manifest can't be read.
    """
    return _read(Manifest, folder / name / "manifest.json")


def find_fetched(folder: Path, name: str) -> Fetched | None:
    """Return what is written down about a fetched file; the file itself may be gone.

    Raises
    ------
    Conflict
        The record can't be read.
    """
    return _read(Fetched, fetched_folder(folder, name) / "fetched.json")


def fetched_folder(folder: Path, name: str) -> Path:
    """Return where a fetched file lies."""
    return folder / "fetched" / name


def accept_licence(folder: Path, row: PublishedFile) -> Acceptance:
    """Write down that the licence of a published file was agreed to, now."""
    acceptance = Acceptance(name=row.name, licence=row.licence, url=row.licence_url, time=datetime.now(UTC))
    write_record(folder / "accepted" / f"{row.name}.json", acceptance)
    return acceptance


def find_acceptance(folder: Path, row: PublishedFile) -> Acceptance | None:
    """Return when the licence was agreed to; an agreement to another licence does not count.

    Raises
    ------
    Conflict
        The record can't be read.
    """
    found = _read(Acceptance, folder / "accepted" / f"{row.name}.json")
    return found if found and (found.licence, found.url) == (row.licence, row.licence_url) else None


def require_acceptance(folder: Path, row: PublishedFile) -> Acceptance:
    """Return when the licence was agreed to.

    Raises
    ------
    Refused
        It was not.
    """
    found = find_acceptance(folder, row)
    if found is None:
        raise Refused(
            f"no agreement to the licence of {row.name}",
            f"agreement to {row.licence} ({row.licence_url}): {row.terms}",
            f"Read it, then run voxelight weights accept {row.name}.",
        )
    return found


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    with storing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(path)


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Say what is wrong with a disk where the block can't go on because of it.

    Raises
    ------
    Unavailable
        A file can't be read or written.
    """
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{error.strerror or error} ({error.filename or folder})",
            f"room and the right to write in {folder}",
            "Make room, correct the rights, or name another folder with VOXELIGHT_WEIGHTS.",
        ) from error


@contextmanager
def alone(folder: Path, name: str, doing: str) -> Iterator[None]:
    """Keep other processes from the same work while the block runs; a process that dies lets go.

    Raises
    ------
    Conflict
        Another process is at it.
    """
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{name}.lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"{name} {doing} by another process", "one at a time", "Wait until it is done.") from None
        yield


def hash_parts(part_sha256: Mapping[str, str]) -> str:
    """Return the hash of the hashes of parts, as the provenance of every result has it."""
    lines = "".join(f"{name}:{part_sha256[name]}\n" for name in sorted(part_sha256))
    return hashlib.sha256(lines.encode()).hexdigest()


def hash_file(path: Path, on_bytes: Callable[[int], object] | None = None) -> str:
    """Return the sha256 of a file in hex.

    Parameters
    ----------
    path : the file
    on_bytes : called with the number of bytes after each piece
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            found.update(piece)
            if on_bytes:
                on_bytes(len(piece))
    return found.hexdigest()


def _read(kind: type[R], path: Path) -> R | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Conflict(
            f"{path} with {first['msg']} at {'.'.join(map(str, first['loc'])) or 'its start'}",
            "what voxelight weights wrote there",
            f"Remove {path.parent if kind is Manifest else path} and run the command again.",
        ) from error
