"""Secrets in files that only their owner reads: made once, whole or not at all, and one key for one purpose."""

import hashlib
import hmac
import os
import uuid
from pathlib import Path

from voxelight.models.errors import Unavailable

KEY_BYTES = 32


def create_key(path: Path) -> None:
    """Write a new key, unless there is one; two processes that do so at once agree on one of the two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES).hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # whole or not at all, and never over the key of another process
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)


def read_key(path: Path) -> bytes:
    """Return the 32 bytes of a key.

    Raises
    ------
    FileNotFoundError
        There is none.
    Unavailable
        The file can't be read, or holds no key.
    """
    try:
        secret = bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"{path}, which can't be read as a key ({type(error).__name__})",
            "64 hexadecimal digits in a file of this user",
            "Restore it from its backup, and let the user who runs Voxelight own it.",
        ) from None
    if len(secret) != KEY_BYTES:
        raise Unavailable(f"{path} of {len(secret)} bytes", f"{KEY_BYTES} bytes", "Restore it from its backup.")
    return secret


def ensure_key(path: Path) -> bytes:
    """Return a key, made on first use."""
    if not path.exists():
        create_key(path)
    return read_key(path)


def derive_key(secret: bytes, purpose: str) -> bytes:
    """Return one key of 32 bytes for one purpose (HKDF-Expand of RFC 5869 with one block)."""
    return hmac.new(secret, f"voxelight {purpose}".encode() + b"\x01", hashlib.sha256).digest()
