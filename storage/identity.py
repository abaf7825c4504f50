"""The key of an installation: what names become without it, and what only it opens again."""

import hashlib
import hmac
import json
import os
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from voxelight.models.errors import Refused, Unavailable
from voxelight.storage.keys import create_key, derive_key, read_key

_NONCE_BYTES = 12
_MOST_DAYS = 3652  # ten years back, so that no shifted date lies in the future


@dataclass(frozen=True)
class SeriesIdentity:
    """What a series was before it was cleaned.

    Parameters
    ----------
    series_uid : its new SeriesInstanceUID
    uids : new UID -> original, of study, series, instances and what they refer to
    patient : keyword -> original value, of patient and study
    days : by how many days its dates were moved
    """

    series_uid: str
    uids: dict[str, str]
    patient: dict[str, str]
    days: int


@dataclass(frozen=True)
class IdentityKey:
    """A secret of 32 bytes in a file that only its owner reads.

    Whoever has the database without this file can neither tell who a scan is of nor undo a shifted date. Back it up
    apart from the database: without it no segmentation finds back to its study.

    Parameters
    ----------
    path : of the file
    """

    path: Path

    def ensure(self, has_links: bool) -> None:
        """Make the key where there is none.

        Parameters
        ----------
        has_links : whether something was sealed with a key before

        Raises
        ------
        Unavailable
            The key is missing though something was sealed with it, or can't be read.
        """
        if self.path.exists():
            self._read()
            return
        if has_links:
            raise self._missing()
        create_key(self.path)

    def read_text(self) -> str:
        """Return the key as its file holds it: 64 hexadecimal digits.

        Raises
        ------
        Unavailable
            It is missing or can't be read.
        """
        return self._secret.hex()

    def hash_uid(self, uid: str) -> str:
        """Return the UID that stands for another: `2.25.` and 128 bits of its HMAC-SHA256 (PS3.5, B.2)."""
        # What holds a slash is no UID: a file that says it has such a one would learn the label of somebody else.
        return f"2.25.{int.from_bytes(self._digest('no-uid' if '/' in uid else 'uid', uid)[:16], 'big')}"

    def hash_label(self, text: str) -> str:
        """Return 32 hexadecimal digits that stand for what a person or a visit is known by; it holds a slash."""
        return self._digest("uid", text)[:16].hex()

    def shift_days(self, dataset: uuid.UUID, subject: str) -> int:
        """Return by how many days every date of a subject is moved, 1 to 3652 back, the same whenever it is asked."""
        return -1 - int.from_bytes(self._digest("days", f"{dataset}/{subject}")[:8], "big") % _MOST_DAYS

    def seal(self, content: dict[str, Any], context: str) -> bytes:
        """Encrypt by AES-256-GCM; it opens under the same context only."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._cipher.encrypt(nonce, json.dumps(content).encode(), context.encode())
        return nonce + sealed

    def open(self, sealed: bytes, context: str) -> dict[str, Any]:
        """Decrypt what `seal` gave.

        Raises
        ------
        Refused
            It was sealed with another key or for another context, or was changed since.
        """
        from cryptography.exceptions import InvalidTag

        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except InvalidTag:
            raise Refused(
                "an identity link that this key does not open",
                f"the key {self.path.name} that it was sealed with",
                "Restore the key from the backup that belongs to this database.",
            ) from None
        content: dict[str, Any] = json.loads(plain)
        return content

    @cached_property
    def _secret(self) -> bytes:
        return self._read()

    @cached_property
    def _cipher(self) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # imported late: most processes seal nothing

        return AESGCM(derive_key(self._secret, "seal"))

    def _digest(self, kind: str, name: str) -> bytes:
        return hmac.new(derive_key(self._secret, "hash"), f"{kind}\0{name}".encode(), hashlib.sha256).digest()

    def _read(self) -> bytes:
        try:
            return read_key(self.path)
        except FileNotFoundError:
            raise self._missing() from None

    def _missing(self) -> Unavailable:
        return Unavailable(
            f"no key {self.path}, though identities were sealed with one",
            "the key that they were sealed with",
            "Restore it from the backup that belongs to this database; a new key would open none of them.",
        )
