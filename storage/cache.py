"""Results of stages between runs: one file a key, there whole or not at all, the longest unused forgotten first."""

import hashlib
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from voxelight.models.errors import BadInput

_KEY = re.compile(r"[0-9a-f]{64}")
_SUFFIX, _PART = ".safetensors", ".part"
_ABANDONED_S = 3600
DEFAULT_LIMIT_BYTES = 20 << 30


class StageCache:
    """Arrays under the sha256 of what made them, in one folder of bounded size.

    Several processes may share the folder: a file is written beside its place and moved there, and one that another
    process has forgotten meanwhile counts as not there.

    Parameters
    ----------
    folder : made when it is not there
    limit_bytes : after each write, the longest unused files go until the rest is no larger
    """

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        if limit_bytes < 1:
            raise BadInput(f"a limit of {limit_bytes} bytes", "at least 1", "Give the cache some room.")
        self._folder = folder
        self._limit = limit_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays under a key; None where there are none, or they are damaged, and then they go.

        Raises
        ------
        BadInput
            The key is no sha256.
        """
        path = self._place(key)
        try:
            with safe_open(str(path), "np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                told = (file.metadata() or {}).get("sha256")
            if told != _hash(arrays):
                raise SafetensorError("the arrays are not those that were written")
            os.utime(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):
            path.unlink(missing_ok=True)
            return None
        return arrays

    def write(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep arrays under a key.

        Raises
        ------
        BadInput
            The key is no sha256.
        """
        path = self._place(key)
        whole = {name: np.asarray(values, order="C") for name, values in arrays.items()}
        temporary = self._folder / f"{uuid.uuid4().hex}{_PART}"
        try:
            temporary.write_bytes(save(whole, metadata={"sha256": _hash(whole)}))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._forget()

    def _place(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise BadInput(f"the key {key!r}", "64 hexadecimal digits", "Use the sha256 of what made the arrays.")
        return self._folder / f"{key}{_SUFFIX}"

    def _forget(self) -> None:
        """Remove the longest unused files beyond the limit, and what writes that were killed left behind."""
        known = _list(self._folder, _SUFFIX)
        abandoned = [one for one in _list(self._folder, _PART) if one[0] < time.time() - _ABANDONED_S]
        total = sum(size for _, size, _ in known)
        for _, size, path in abandoned + known:
            if path.suffix != _PART:
                if total <= self._limit:
                    return
                total -= size
            path.unlink(missing_ok=True)


def _list(folder: Path, suffix: str) -> list[tuple[float, int, Path]]:
    """Return when a file was last used, its size and its path, the longest unused first."""
    known = []
    for path in folder.glob(f"*{suffix}"):
        try:
            stat = path.stat()
        except FileNotFoundError:  # another process has forgotten it
            continue
        known.append((stat.st_mtime, stat.st_size, path))
    return sorted(known)


def _hash(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 of names, shapes, types and values."""
    total = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        total.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        total.update(np.asarray(values, order="C").data)
    return total.hexdigest()
