"""Files that come in pieces: on this disk under the id of their upload, until they are whole and checked.

The length of such a file is the truth of how far its upload is. So a server that is killed in the middle of a piece
keeps what it has written, and no row can say otherwise.
"""

import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxelight.models.errors import BadInput, Conflict, NotFound, Refused
from voxelight.storage.stored import ListedFile, list_folder

CHECKSUMS = ("sha256", "sha1")


class Locked(Conflict):
    """Another request writes to the same upload."""


class Gone(NotFound):
    """An upload whose time is over."""


class TooLarge(BadInput):
    """More than is accepted."""


class OverQuota(Refused):
    """More than may be stored."""


class WrongChecksum(BadInput):
    """A piece that is not what its sender meant."""


class Piece:
    """One piece on its way to the end of a file.

    Parameters
    ----------
    file : number of the open file
    room : bytes that the file may still grow by
    algorithm : by which the piece will be checked, one of `CHECKSUMS`; None: it will not
    """

    def __init__(self, file: int, room: int, algorithm: str | None) -> None:
        self._file = file
        self._room = room
        self._hash = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises
        ------
        TooLarge
            The file would become longer than its upload said.
        """
        if len(chunk) > self._room:
            raise TooLarge(
                f"{len(chunk) - self._room} bytes more than the Upload-Length that was announced",
                "as many bytes as announced",
                "Start a new upload with the length of the file.",
            )
        self._room -= len(chunk)
        if self._hash:
            self._hash.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._file, view) :]

    def verify(self, checksum: bytes) -> None:
        """Compare with what the sender computed.

        Raises
        ------
        WrongChecksum
            They differ.
        """
        found = self._hash.digest() if self._hash else b""
        if found != checksum:
            raise WrongChecksum(f"a piece with the hash {found.hex()}", checksum.hex(), "Send the piece again.")


class UploadFiles:
    """The files of the uploads that are under way.

    Parameters
    ----------
    folder : on this machine
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, upload: uuid.UUID) -> Path:
        """Where the bytes of an upload lie."""
        return self._folder / upload.hex

    def create(self, upload: uuid.UUID) -> None:
        """Begin an empty file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.path(upload).open("xb").close()

    def size(self, upload: uuid.UUID) -> int | None:
        """How many bytes are there; None where there is no such file."""
        try:
            return self.path(upload).stat().st_size
        except FileNotFoundError:
            return None

    def list_files(self) -> dict[str, ListedFile]:
        """Return what lies here, by the id of its upload in hex."""
        return {path.name: lying for path, lying in list_folder(self._folder)}

    def free_bytes(self) -> int:
        """How much the disk has room for."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self._folder).free

    @contextmanager
    def held(self, upload: uuid.UUID, create: bool = False) -> Iterator[int]:
        """Give the open file to nobody else meanwhile, in this process or another.

        Parameters
        ----------
        upload : whose file
        create : make it where it is missing

        Raises
        ------
        Locked
            Somebody has it.
        Gone
            Its file is not there any more.
        """
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            file = os.open(self.path(upload), flags, 0o600)
        except FileNotFoundError:
            raise Gone("an upload whose bytes are not here any more", "one under way", "Start it again.") from None
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Locked(
                    "another request that writes to this upload",
                    "one at a time",
                    "Wait until it has ended, ask with HEAD how far it came, and go on there.",
                ) from None
            yield file
        finally:
            os.close(file)

    @contextmanager
    def append(
        self, upload: uuid.UUID, offset: int, size: int, checksum: tuple[str, bytes] | None = None
    ) -> Iterator[Piece]:
        """Take in one piece; what came before the connection broke stays, unless it was to be checked.

        Parameters
        ----------
        upload : whose file
        offset : bytes, where the piece begins
        size : bytes of the whole file
        checksum : algorithm and hash of the piece

        Raises
        ------
        Locked
            Another request writes to it.
        Conflict
            The file is not as long as `offset`.
        WrongChecksum
            The piece is another than its sender hashed; nothing of it stays.
        """
        with self.held(upload) as file:
            present = os.fstat(file).st_size
            if present != offset:
                raise Conflict(
                    f"{present} bytes", f"Upload-Offset: {present}", "Ask with HEAD how far it came, and go on there."
                )
            piece = Piece(file, size - offset, checksum[0] if checksum else None)
            try:
                yield piece
                if checksum:
                    piece.verify(checksum[1])
            except BaseException:
                if checksum:
                    os.ftruncate(file, offset)
                raise

    def remove(self, upload: uuid.UUID) -> None:
        """Remove the file, where it is there."""
        self.path(upload).unlink(missing_ok=True)

    def sweep(self, known: set[str], older_than_s: float) -> list[str]:
        """Remove files whose upload is not among the known; return their names.

        Parameters
        ----------
        known : ids in hex
        older_than_s : seconds; younger files may belong to an upload that is just beginning
        """
        cutoff = time.time() - older_than_s
        files = self._folder.iterdir() if self._folder.is_dir() else iter(())
        lost = [path for path in files if path.name not in known and path.stat().st_mtime < cutoff]
        for path in lost:
            path.unlink(missing_ok=True)
        return [path.name for path in lost]
