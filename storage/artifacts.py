"""Files by the hash of their content, on any file system that fsspec reaches.

A blob is written to a temporary name and moved, so it is there whole or not at all. It counts as stored when a row
names it; what no row names is invisible, and `sweep` reclaims it once it is older than any write could take.
"""

import fcntl
import hashlib
import io
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.sealed import MARK, Keys, Opened, Tampered, read_header, seal
from voxelight.storage.stored import ListedFile, list_folder, read_listed

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
    keys : by which blobs are sealed and opened; without any they are stored as they are
    """

    def __init__(
        self, root_url: str, spool: Path, storage_options: dict[str, Any] | None = None, keys: Keys | None = None
    ) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(root_url, **(storage_options or {}))
        self._is_local = "file" in ([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol)
        self._spool = spool
        self._keys = keys or Keys(())
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
        if self._is_local and self._renew(key):
            return ref
        with self._as_stored(path, ref, sealed=bool(self._keys.secrets)) as source:
            self._write(source, key)
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
            header = read_header(file)
            if header is None:
                self._refuse_plain(sha256)
                file.seek(0)
                yield file
                return
            with io.BufferedReader(Opened(file, header, self._keys, sha256), CHUNK_BYTES) as plain:
                yield plain

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
            if self._is_local and not self._keys.only and not self._is_sealed(key):
                path.symlink_to(Path(key).resolve())
            else:
                with self.open(sha256) as source, path.open("xb") as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)
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
            with self._locked(fcntl.LOCK_EX):
                if self._age_s(old[name]) > older_than_s:  # once more: a write may have wanted it meanwhile
                    self._fs.rm_file(old[name])
                    removed.append(name)
        return removed

    def reseal(self, plain: bool = False) -> Iterator[str]:
        """Bring every blob under the first key, or out of any; yield the hash of each that was another way.

        What reads a blob meanwhile goes on; broken off, it is begun again and leaves out what is done.

        Parameters
        ----------
        plain : store them as they are, instead

        Raises
        ------
        Tampered
            A blob is not the content that its name says; it stays as it is.
        """
        wanted = self._keys.first if self._keys.secrets and not plain else None
        for key in self._files_under(f"{self._root}/sha256"):
            with self._fs.open(key, "rb") as file:
                header = read_header(file)
            if (header.key_id if header else None) == wanted:
                continue
            sha256 = key.rsplit("/", 1)[1]
            with self.incoming() as incoming:
                for chunk in self.read_range(sha256, 0, sys.maxsize):
                    incoming.write(chunk)
                ref = incoming.finish()
                if ref.sha256 != sha256:
                    raise Tampered(
                        f"the blob {sha256[:12]} with a content whose hash is {ref.sha256[:12]}",
                        "the content that its name says",
                        "Restore this blob from the backup, then repeat.",
                    )
                with self._as_stored(incoming.path, ref, sealed=wanted is not None) as source:
                    self._write(source, key)
            yield sha256

    @contextmanager
    def _as_stored(self, path: Path, ref: BlobRef, sealed: bool) -> Iterator[Path]:
        """Give a file in the form in which it is stored: itself, or its sealed form, which is gone on leaving."""
        with path.open("rb") as file:
            if not sealed:
                if file.read(len(MARK)) == MARK:
                    raise BadInput(
                        "a file that begins like a sealed blob", "any other content", "Wrap it in an archive."
                    )
                yield path
                return
            target = self._spool / f"{uuid.uuid4().hex}.part"
            try:
                with target.open("xb") as out:
                    seal(file, ref.size, out, self._keys, ref.sha256)
                yield target
            finally:
                target.unlink(missing_ok=True)

    def _write(self, path: Path, key: str) -> None:
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

    def _renew(self, key: str) -> bool:
        """Make a content young, so that a sweep under way leaves it alone; say whether it is there."""
        with self._locked(fcntl.LOCK_SH), suppress(FileNotFoundError):
            os.utime(key)
            return True
        return False

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Keep a sweep from removing what is being renewed; in an object store every write is anew."""
        if not self._is_local:
            yield
            return
        Path(self._root).mkdir(parents=True, exist_ok=True)
        with (Path(self._root) / "sweep.lock").open("a") as lock:
            fcntl.flock(lock, how)
            try:
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # a process that was forked meanwhile would keep it

    def _refuse_plain(self, sha256: str) -> None:
        if self._keys.only:
            raise Tampered(
                f"the blob {sha256[:12]}, which is not sealed",
                "sealed ones only, as VOXELIGHT_BLOBS_SEALED_ONLY asks for",
                "Run voxelight storage rekey without that setting once; else restore this blob from the backup.",
            )

    def _is_sealed(self, key: str) -> bool:
        with self._fs.open(key, "rb") as file:
            return read_header(file) is not None

    def list_stored(self) -> list[ListedFile]:
        """Return every file below the root, whole or not, and those of the spool."""
        found = [lying for _, lying in list_folder(self._spool)]
        for folder in ("tmp", "sha256"):
            if self._fs.exists(f"{self._root}/{folder}"):
                listed = self._fs.find(f"{self._root}/{folder}", detail=True)
                found += [read_listed(path, facts) for path, facts in listed.items()]
        return found

    def _old_spool(self, older_than_s: float) -> list[Path]:
        return [path for path, lying in list_folder(self._spool) if lying.age_s > older_than_s]

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
