"""Files by the hash of their content, on any file system that fsspec reaches.

A blob is written to a temporary name and moved, so it is there whole or not at all. It counts as stored when a row
names it; what no row names is invisible, and `sweep` reclaims it once it is older than any write could take.
"""

import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec

from voxelight.models.errors import BadInput, NotFound

CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BlobRef:
    """A stored content: its sha256 in hex and its size in bytes."""

    sha256: str
    size: int


class Incoming:
    """A file on its way in: hashed while it is written, in flat memory, gone when it is not kept."""

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self.path = path
        self._limit = limit
        self.size = 0
        self._hash = hashlib.sha256()
        self._file: IO[bytes] = path.open("xb")

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises
        ------
        BadInput
            The file would grow beyond its limit.
        """
        if self._limit is not None and self.size + len(chunk) > self._limit:
            raise BadInput(
                f"an upload of more than {self._limit} bytes",
                f"at most {self._limit} bytes",
                "Split it, or raise VOXELIGHT_UPLOAD_LIMIT_BYTES.",
            )
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def finish(self) -> BlobRef:
        """Flush to the disk and return what came in.

        Raises
        ------
        BadInput
            Nothing came in.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self.size == 0:
            raise BadInput("an empty upload", "a file with content", "Check the file at its source and send it again.")
        return BlobRef(self._hash.hexdigest(), self.size)

    def discard(self) -> None:
        """Close and remove the file, whatever state it is in."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class BlobStore:
    """Content-addressed files under one root.

    Parameters
    ----------
    root_url : folder or fsspec URL, e.g. `s3://bucket/voxelight`
    spool : folder on this machine for files on their way in or out
    storage_options : passed to fsspec, endpoint and credentials for one
    """

    def __init__(self, root_url: str, spool: Path, storage_options: dict[str, Any] | None = None) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(root_url, **(storage_options or {}))
        self._is_local = "file" in ([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol)
        self._spool = spool
        spool.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def incoming(self, limit: int | None = None) -> Iterator[Incoming]:
        """Give a file to write to, of at most `limit` bytes; it is removed on leaving."""
        incoming = Incoming(self._spool / f"{uuid.uuid4().hex}.part", limit)
        try:
            yield incoming
        finally:
            incoming.discard()

    def put_file(self, path: Path, sha256: str | None = None) -> BlobRef:
        """Store the content of a file, which stays where it is.

        Parameters
        ----------
        path : file on this machine
        sha256 : its hash, where it is known already
        """
        ref = BlobRef(sha256 or hash_file(path), path.stat().st_size)
        key = self._key(ref.sha256)
        if self._is_local and self._fs.exists(key):
            os.utime(key)  # young again, so that a sweep under way leaves it alone
            return ref
        temporary = f"{self._root}/tmp/{uuid.uuid4().hex}"
        self._fs.makedirs(f"{self._root}/tmp", exist_ok=True)
        self._fs.makedirs(key.rsplit("/", 1)[0], exist_ok=True)
        try:
            self._fs.put_file(str(path), temporary)
            if self._is_local:
                Path(temporary).replace(key)
            else:
                self._fs.mv(temporary, key)
        except BaseException:
            if self._fs.exists(temporary):
                self._fs.rm_file(temporary)
            raise
        return ref

    def put_bytes(self, content: bytes) -> BlobRef:
        """Store bytes."""
        with self.incoming() as incoming:
            incoming.write(content)
            ref = incoming.finish()
            return self.put_file(incoming.path, ref.sha256)

    def read(self, sha256: str) -> bytes:
        """Return the whole content.

        Raises
        ------
        NotFound
            No such blob.
        """
        with self.open(sha256) as file:
            return file.read()

    @contextmanager
    def open(self, sha256: str) -> Iterator[IO[bytes]]:
        """Open for reading, seekable.

        Raises
        ------
        NotFound
            No such blob.
        """
        with self._fs.open(self._find(sha256), "rb") as file:
            yield file

    def read_range(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from start up to stop, in chunks of at most 1 MiB."""
        with self.open(sha256) as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(CHUNK_BYTES, stop - start))):
                start += len(chunk)
                yield chunk

    @contextmanager
    def local_file(self, sha256: str, name: str) -> Iterator[Path]:
        """Give the content as a file on this machine under a readable name, for readers that go by suffix.

        Raises
        ------
        NotFound
            No such blob.
        """
        key = self._find(sha256)
        folder = self._spool / uuid.uuid4().hex
        folder.mkdir()
        path = folder / name
        try:
            if self._is_local:
                path.symlink_to(Path(key).resolve())
            else:
                self._fs.get_file(key, str(path))
            yield path
        finally:
            path.unlink(missing_ok=True)
            folder.rmdir()

    def remove(self, sha256: str) -> None:
        """Remove the content, if it is there."""
        key = self._key(sha256)
        if self._fs.exists(key):
            self._fs.rm_file(key)

    def exists(self, sha256: str) -> bool:
        """Whether the content is there."""
        return bool(self._fs.exists(self._key(sha256)))

    def sweep(self, find_named: Callable[[], set[str]], older_than_s: float = 86_400) -> list[str]:
        """Remove what no row names and leftovers of writes that never ended.

        Parameters
        ----------
        find_named : returns the hashes that a row names, asked once the old files are known
        older_than_s : seconds; younger files may belong to a write that is still under way

        Returns
        -------
        list of str
            The names of what was removed.
        """
        leftovers = self._old_spool(older_than_s)
        for path in leftovers:
            path.unlink(missing_ok=True)
        removed = [path.name for path in leftovers]
        old = {
            path.rsplit("/", 1)[1]: path
            for folder in ("tmp", "sha256")
            for path in self._files_under(f"{self._root}/{folder}")
            if self._age_s(path) > older_than_s
        }
        orphans = set(old) - find_named()
        for name in sorted(orphans):
            if self._age_s(old[name]) > older_than_s:  # once more: a write may have wanted it meanwhile
                self._fs.rm_file(old[name])
                removed.append(name)
        return removed

    def _old_spool(self, older_than_s: float) -> list[Path]:
        cutoff = time.time() - older_than_s
        return [path for path in self._spool.rglob("*") if not path.is_dir() and path.lstat().st_mtime < cutoff]

    def _files_under(self, folder: str) -> list[str]:
        return list(self._fs.find(folder)) if self._fs.exists(folder) else []

    def _age_s(self, path: str) -> float:
        modified: float = self._fs.modified(path).timestamp() if self._fs.exists(path) else time.time()
        return time.time() - modified

    def _find(self, sha256: str) -> str:
        key = self._key(sha256)
        if not self._fs.exists(key):
            raise NotFound(
                f"no content with sha256 {sha256[:12]}",
                "a blob that a row of the database names",
                "Restore the blob folder from the backup that belongs to this database.",
            )
        return key

    def _key(self, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise BadInput(f"{sha256!r}", "64 hexadecimal digits", "Ask for a blob by the sha256 of its content.")
        return f"{self._root}/sha256/{sha256[:2]}/{sha256}"


def hash_file(path: Path) -> str:
    """Return the sha256 of a file in hex, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
