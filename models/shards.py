"""Tensors into safetensors files, a piece at a time, so that memory does not grow with a tensor."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from voxelight.models.errors import BadInput
from voxelight.models.records import StoredFile

_PIECE = 4 << 20  # elements
# Names of the format, https://huggingface.co/docs/safetensors
_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A tensor and the precision in which it is written."""

    name: str
    tensor: Tensor
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.tensor.numel() * self.dtype.itemsize


def plan_shards(part: str, entries: Sequence[Entry], limit: int) -> dict[str, list[Entry]]:
    """Share tensors out to files.

    Parameters
    ----------
    part : first half of the files' names
    entries : in the order of the network
    limit : bytes of one file; a single larger tensor has its own

    Returns
    -------
    file name -> its tensors
    """
    shards: list[list[Entry]] = [[]]
    for entry in entries:
        if shards[-1] and sum(other.size for other in shards[-1]) + entry.size > limit:
            shards.append([])
        shards[-1].append(entry)
    return {f"{part}-{i:05}-of-{len(shards):05}.safetensors": shard for i, shard in enumerate(shards, 1)}


def write_halves(
    folder: Path, part: str, tensors: Mapping[str, Tensor], limit: int, metadata: Mapping[str, str]
) -> list[StoredFile]:
    """Write tensors in half precision, those that are no floats as they are.

    Parameters
    ----------
    folder : where there is no such file yet
    part : first half of the files' names
    tensors : on any device
    limit : bytes of one file
    metadata : what else the headers say

    Raises
    ------
    BadInput
        A number is too large for half precision.
    """
    held = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    entries = [
        Entry(name, value, torch.float16 if value.is_floating_point() else value.dtype) for name, value in held.items()
    ]
    return [write_shard(folder / file, some, metadata) for file, some in plan_shards(part, entries, limit).items()]


def write_shard(
    path: Path,
    entries: Sequence[Entry],
    metadata: Mapping[str, str],
    on_bytes: Callable[[int], object] | None = None,
) -> StoredFile:
    """Write one file of safetensors and flush it to the disk.

    Parameters
    ----------
    path : a new file
    entries : its tensors
    metadata : what else its header says
    on_bytes : called with the number of bytes after each piece

    Raises
    ------
    BadInput
        A number is too large for float16, or the format has no such precision.
    """
    # The widest first, so that every tensor starts at a multiple of its own width.
    entries = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    found = hashlib.sha256()
    with path.open("xb") as file:
        header = _make_header(entries, metadata)
        file.write(header)
        found.update(header)
        for entry in entries:
            flat = entry.tensor.reshape(-1)
            for start in range(0, len(flat), _PIECE):
                content = _cast(flat[start : start + _PIECE], entry).contiguous().view(torch.uint8).numpy().data
                file.write(content)
                found.update(content)
                if on_bytes:
                    on_bytes(len(content))
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return StoredFile(file=path.name, sha256=found.hexdigest(), size=size)


def _make_header(entries: Sequence[Entry], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    start = 0
    for entry in entries:
        if entry.dtype not in _NAMES:
            raise BadInput(
                f"{entry.name} in {entry.dtype}", f"one of {', '.join(map(str, _NAMES))}", "Convert it first."
            )
        end = start + entry.size
        header[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)  # the numbers begin with a cache line
    return len(text).to_bytes(8, "little") + text


def _cast(piece: Tensor, entry: Entry) -> Tensor:
    cast = piece.to(entry.dtype)
    if entry.dtype == torch.float16 and piece.dtype != torch.float16 and bool((cast.isinf() & piece.isfinite()).any()):
        raise BadInput(
            f"{float(piece.abs().max()):g} in {entry.name}",
            f"at most {torch.finfo(torch.float16).max:g}, the largest number of float16",
            "Convert to bfloat16 instead.",
        )
    return cast
