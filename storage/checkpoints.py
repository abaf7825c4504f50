"""The state of a training between runs: the last few steps, each there whole or not at all, and never a pickle."""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from voxelight.models.errors import BadInput
from voxelight.storage.artifacts import hash_file

_NAME = re.compile(r"step-(\d{9})")
_STATE, _PART = "state.json", ".part"
SHARD_BYTES = 4 << 30


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint on disk.

    Parameters
    ----------
    step : steps that were taken before it
    facts : all that is not an array
    arrays : by name, each read when it is asked for
    """

    step: int
    facts: Any
    arrays: Mapping[str, NDArray[Any]]


class CheckpointFolder:
    """Checkpoints of one training, a folder each: safetensors of a few GiB, and a JSON file with their hashes.

    A checkpoint is written under another name and moved into place, so that a process that is killed leaves the one
    before; what it left behind goes with the next write.

    Parameters
    ----------
    folder : of this training alone, made when something is written
    keep : how many are kept, the latest
    shard_bytes : arrays that are in memory together while they are written; a larger one is written alone
    """

    def __init__(self, folder: Path, keep: int = 2, shard_bytes: int = SHARD_BYTES) -> None:
        if keep < 1 or shard_bytes < 1:
            raise BadInput(f"{keep} checkpoints in files of {shard_bytes} bytes", "at least 1 of each", "Keep one.")
        self._folder, self._keep, self._shard_bytes = folder, keep, shard_bytes

    def write(self, step: int, arrays: Iterable[tuple[str, NDArray[Any]]], facts: Any) -> None:
        """Keep a state, in place of an earlier one of the same step, and forget all but the last few.

        Parameters
        ----------
        step : steps that were taken before it
        arrays : names and arrays, taken from the iterator only as they are written
        facts : what JSON can hold
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for abandoned in self._folder.glob(f"*{_PART}"):
            shutil.rmtree(abandoned, ignore_errors=True)
        place = self._folder / f"step-{step:09d}"
        temporary = self._folder / f"{place.name}.{uuid.uuid4().hex[:8]}{_PART}"
        temporary.mkdir()
        try:
            files = [_write_shard(temporary, number, shard) for number, shard in enumerate(self._shards(arrays))]
            text = json.dumps({"step": step, "facts": facts, "files": files})
            (temporary / _STATE).write_text(json.dumps({"sha256": _hash(text), "state": text}), encoding="utf-8")
            _settle(temporary / _STATE)
            shutil.rmtree(place, ignore_errors=True)
            temporary.replace(place)
            _settle(self._folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for _, old in self._places()[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self) -> StoredCheckpoint | None:
        """Return the latest undamaged checkpoint, or None; damaged ones are passed over and left."""
        for step, place in self._places():
            found = _open(place, step)
            if found is not None:
                return found
        return None

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints that are here, the latest first."""
        return [step for step, _ in self._places()]

    def _places(self) -> list[tuple[int, Path]]:
        named = ((_NAME.fullmatch(path.name), path) for path in self._folder.glob("step-*"))
        return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)

    def _shards(self, arrays: Iterable[tuple[str, NDArray[Any]]]) -> Iterator[dict[str, NDArray[Any]]]:
        shard: dict[str, NDArray[Any]] = {}
        size = 0
        for name, array in arrays:
            if shard and size + array.nbytes > self._shard_bytes:
                yield shard
                shard, size = {}, 0
            shard[name] = array
            size += array.nbytes
        if shard:
            yield shard


class _Arrays(Mapping[str, NDArray[Any]]):
    """Arrays of several files, read one by one."""

    def __init__(self, files: list[Path]) -> None:
        self._files = [safe_open(str(path), "np") for path in files]
        self._places = {name: file for file in self._files for name in file.keys()}  # type: ignore[no-untyped-call]  # noqa: SIM118

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._places[name].get_tensor(name)  # type: ignore[no-untyped-call]
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _write_shard(folder: Path, number: int, shard: dict[str, NDArray[Any]]) -> dict[str, str]:
    path = folder / f"tensors-{number:05d}.safetensors"
    save_file(shard, str(path))
    _settle(path)
    return {"name": path.name, "sha256": hash_file(path)}


def _open(place: Path, step: int) -> StoredCheckpoint | None:
    try:
        outer = json.loads((place / _STATE).read_text("utf-8"))
        if _hash(outer["state"]) != outer["sha256"]:
            return None
        told = json.loads(outer["state"])
        files = [place / file["name"] for file in told["files"]]
        if any(hash_file(path) != file["sha256"] for path, file in zip(files, told["files"], strict=True)):
            return None
        return StoredCheckpoint(step, told["facts"], _Arrays(files))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _settle(path: Path) -> None:
    """Wait until a file or a folder is on the disk itself, so that a power cut can't take what was moved into place."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
