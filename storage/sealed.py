"""Blobs encrypted where they lie: AES-256-GCM in chunks, so that they are written and read in flat memory and by range.

A sealed blob is a header and then chunks. The header holds a mark, the id of the key, the size of a chunk, the size of
the plain content and a salt. Every blob is sealed by a key of its own (HKDF-SHA256, RFC 5869, of the key and the salt),
so the number of a chunk can be its nonce and never comes twice under one key (NIST SP 800-38D, section 8.2.1). Header,
address of the blob and number of the chunk are authenticated: a changed byte, a missing end, chunks that changed places
and blobs that changed places are all found.
"""

import io
import os
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from voxelight.models.errors import BadInput, Unavailable, VoxelightError
from voxelight.storage.keys import KEY_BYTES, derive_key

MARK = b"VXSEAL1\n"
CHUNK_BYTES = 1 << 16
_TAG_BYTES = 16
_SALT_BYTES = 32
_ID_BYTES = 8
_HEADER = struct.Struct(f">8s{_ID_BYTES}sIQ{_SALT_BYTES}s")


class Tampered(VoxelightError):
    """A sealed content that is not what was stored."""


@dataclass(frozen=True)
class Header:
    """What stands before the chunks: key, bytes of a chunk and of the plain content, salt."""

    key_id: bytes
    chunk: int
    size: int
    salt: bytes

    def pack(self) -> bytes:
        """Return it as it is stored."""
        return _HEADER.pack(MARK, self.key_id, self.chunk, self.size, self.salt)


@dataclass(frozen=True)
class Keys:
    """Keys of sealed blobs: the first seals, each opens what it has sealed.

    Parameters
    ----------
    secrets : 32 bytes each
    only : whether contents that are not sealed are refused, so that nobody can put a plain one in the place of another
    """

    secrets: tuple[bytes, ...]
    only: bool = False

    def __repr__(self) -> str:
        return f"Keys({', '.join(key.hex() for key in self._known)})"

    @cached_property
    def _known(self) -> dict[bytes, bytes]:
        return {derive_key(secret, "blob key id")[:_ID_BYTES]: secret for secret in self.secrets}

    @property
    def first(self) -> bytes:
        """The id of the key that seals."""
        return next(iter(self._known))

    def cipher(self, header: Header) -> Any:
        """Return the cipher of one blob.

        Raises
        ------
        Unavailable
            It was sealed by a key that is not here.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # imported late: most installations seal nothing
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        if header.key_id not in self._known:
            raise Unavailable(
                f"a blob sealed by the key {header.key_id.hex()}",
                f"one of {', '.join(key.hex() for key in self._known) or 'no keys'}",
                "Add the key that sealed it to VOXELIGHT_BLOB_KEYS or to the file that VOXELIGHT_BLOB_KEY_FILE names.",
            )
        return AESGCM(HKDF(SHA256(), KEY_BYTES, header.salt, b"voxelight blob").derive(self._known[header.key_id]))


def parse_keys(text: str, only: bool = False) -> Keys:
    """Read keys, 64 hexadecimal digits each, apart by commas or white space; what follows a `#` is a comment.

    Raises
    ------
    BadInput
        One of them is none; its text is not repeated.
    """
    words = [word for line in text.splitlines() for word in line.partition("#")[0].replace(",", " ").split()]
    try:
        secrets = tuple(bytes.fromhex(word) for word in words)
    except ValueError:
        secrets = (b"",)
    wrong = [number for number, secret in enumerate(secrets, 1) if len(secret) != KEY_BYTES]
    if wrong or not secrets:
        raise BadInput(
            f"key {wrong[0]} of {len(secrets)}, which is none" if wrong else "no key",
            f"keys of {2 * KEY_BYTES} hexadecimal digits",
            "Make one with: voxelight storage rekey --new-key",
        )
    return Keys(secrets, only)


def add_key(path: Path) -> None:
    """Put a new key before those of a file, which is made where it is missing; the file is replaced as a whole."""
    before = path.read_text() if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{os.urandom(KEY_BYTES).hex()}\n{before}")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def seal(plain: IO[bytes], size: int, target: IO[bytes], keys: Keys, address: str) -> None:
    """Write the sealed form of a content.

    Parameters
    ----------
    plain : the content
    size : its bytes
    target : where it goes
    keys : whose first seals
    address : of the blob, which is authenticated with it
    """
    header = Header(keys.first, CHUNK_BYTES, size, os.urandom(_SALT_BYTES))
    cipher, packed = keys.cipher(header), header.pack()
    target.write(packed)
    for number in range(_count_chunks(header)):
        piece = plain.read(CHUNK_BYTES)
        if len(piece) != min(CHUNK_BYTES, size - number * CHUNK_BYTES):
            raise BadInput("a file that was cut short while it was read", f"{size} bytes", "Store it again.")
        target.write(cipher.encrypt(_nonce(number), piece, _context(packed, address, number)))


def read_header(file: IO[bytes]) -> Header | None:
    """Read the header of a sealed content; None where it is a plain one."""
    packed = file.read(_HEADER.size)
    if len(packed) < _HEADER.size or not packed.startswith(MARK):
        return None
    _, key_id, chunk, size, salt = _HEADER.unpack(packed)
    return Header(key_id, chunk, size, salt)


class Opened(io.RawIOBase):
    """A sealed content, read as the plain one.

    Parameters
    ----------
    file : the sealed content
    header : its header
    keys : of which one opens it
    address : of the blob

    Raises
    ------
    Tampered
        From any read: what is stored is not what was sealed.
    """

    def __init__(self, file: IO[bytes], header: Header, keys: Keys, address: str) -> None:
        self._file = file
        self._header = header
        self._cipher = keys.cipher(header)
        self._address = address
        self._place = 0
        self._number, self._plain = -1, b""
        if header.chunk != CHUNK_BYTES:
            raise self._tampered("a header with another size of chunks")
        sealed = file.seek(0, io.SEEK_END)
        if sealed != (due := _HEADER.size + header.size + _TAG_BYTES * _count_chunks(header)):
            raise self._tampered(f"{sealed} bytes where its header asks for {due}")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte of the plain content."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._header.size}[whence]
        if begin + offset < 0:
            raise ValueError("before the start")
        self._place = begin + offset
        return self._place

    def tell(self) -> int:
        """Return the byte of the plain content that comes next."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from at most one chunk."""
        if self._place >= self._header.size:
            if self._header.size == 0:
                self._open(0)
            return 0
        number, within = divmod(self._place, CHUNK_BYTES)
        piece = self._open(number)[within : within + len(buffer)]
        buffer[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)

    def _open(self, number: int) -> bytes:
        from cryptography.exceptions import InvalidTag

        if number != self._number:
            self._file.seek(_HEADER.size + number * (CHUNK_BYTES + _TAG_BYTES))
            sealed = self._file.read(min(CHUNK_BYTES, self._header.size - number * CHUNK_BYTES) + _TAG_BYTES)
            try:
                context = _context(self._header.pack(), self._address, number)
                self._plain = self._cipher.decrypt(_nonce(number), sealed, context)
            except InvalidTag:
                raise self._tampered(f"chunk {number} that was changed since it was sealed") from None
            self._number = number
        return self._plain

    def _tampered(self, found: str) -> Tampered:
        return Tampered(
            f"the blob {self._address[:12]} with {found}",
            "what was stored",
            "Restore this blob from the backup, and find out who writes to the store besides.",
        )


def _count_chunks(header: Header) -> int:
    """How many chunks there are; an empty content has one, so that its emptiness is authenticated."""
    return max(1, -(-header.size // header.chunk))


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _context(packed: bytes, address: str, number: int) -> bytes:
    return packed + address.encode() + number.to_bytes(8, "big")
