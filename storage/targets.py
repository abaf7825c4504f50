"""Frozen targets of training on disk: arrays by the hash of the picture, in tables by the hash of the encoder."""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.formats.streams import replacing

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KIND = re.compile(r"[a-z0-9_-]+")


class TargetTable:
    """Arrays of one shape and type, in parts that are mapped into memory.

    A part is an array file and, written after it, the list of its keys: without the list it isn't there. So an
    interrupted run loses one part, and several processes may fill a table at once. Nothing is ever changed or
    forgotten; to make room, remove the folder.

    Parameters
    ----------
    folder : of this table, made when something is written
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[str, NDArray[Any]] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._look()

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that nothing is kept under, each once."""
        self._look()
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def write(self, keys: Sequence[str], values: NDArray[Any]) -> None:
        """Keep values (key, ...) as one part.

        Raises
        ------
        BadInput
            A key is no sha256 or comes twice, or the values are not as many, or not like those that are there.
        """
        _refuse_bad_keys(keys, values)
        if self._parts:
            like = next(iter(self._parts.values()))
            if (values.shape[1:], values.dtype) != (like.shape[1:], like.dtype):
                raise BadInput(
                    f"targets of shape {values.shape[1:]} and type {values.dtype}",
                    f"{like.shape[1:]} and {like.dtype}, as in the rest of the table",
                    "Keep the targets of another encoder in another table.",
                )
        self._folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        with replacing(self._folder / f"{name}.npy") as file:
            np.save(file, np.ascontiguousarray(values), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        with replacing(self._folder / f"{name}.json") as file:
            file.write(json.dumps({"keys": list(keys), "shape": values.shape, "dtype": values.dtype.str}).encode())
        self._add(name)

    def read(self, keys: Sequence[str]) -> NDArray[Any]:
        """Return values (key, ...), reading no more than these from the disk.

        Raises
        ------
        NotFound
            Nothing is kept under one of the keys.
        """
        lost = [key for key in keys if key not in self._places]
        lost = self.missing(lost) if lost else []
        if lost:
            raise NotFound(f"no target under {lost[0]}", "one for every picture", "Compute the targets first.")
        return np.stack([self._parts[name][row] for name, row in (self._places[key] for key in keys)])

    def __len__(self) -> int:
        return len(self._places)

    def _look(self) -> None:
        """Take up the parts that were written since the last look."""
        for path in sorted(self._folder.glob("*.json")):
            if path.stem not in self._parts:
                self._add(path.stem)

    def _add(self, name: str) -> None:
        told = json.loads((self._folder / f"{name}.json").read_text("utf-8"))
        try:
            part = np.load(self._folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return
        if (list(part.shape), part.dtype.str) != (told["shape"], told["dtype"]):
            return
        self._parts[name] = part
        for row, key in enumerate(told["keys"]):
            self._places.setdefault(key, (name, row))


class TargetStore:
    """Tables by what they hold and what made it.

    Parameters
    ----------
    folder : of all tables
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def table(self, kind: str, encoder: str) -> TargetTable:
        """Return the table of a kind of targets, made when something is written.

        Parameters
        ----------
        kind : ``tokens``, ``latent``, ``maps``, ``captions`` and the like
        encoder : all that the targets hang on beside the picture: the hash of the encoder's weights, and options

        Raises
        ------
        BadInput
            The kind is no plain word.
        """
        if not _KIND.fullmatch(kind) or not encoder:
            raise BadInput(f"the kind {kind!r} by {encoder!r}", "a plain word, and what encodes", "Name both.")
        return TargetTable(self._folder / kind / hashlib.sha256(encoder.encode()).hexdigest()[:32])


def _refuse_bad_keys(keys: Sequence[str], values: NDArray[Any]) -> None:
    if len(keys) != len(values) or len(set(keys)) != len(keys) or not all(map(_SHA256.fullmatch, keys)):
        raise BadInput(
            f"{len(set(keys))} keys for {len(values)} values",
            "one sha256 of a picture for each value, none twice",
            "Hash the pictures first.",
        )
