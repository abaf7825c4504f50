"""Betas mapped into memory: a table (trial, voxel) of which only the rows that are asked for are read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound

_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_LENGTH = 8


def open_voxels(path: Path, name: str = "betas") -> NDArray[np.floating[Any]]:
    """Map a table of betas.

    Parameters
    ----------
    path : ``.npy``, or ``.safetensors`` with the table under a name
    name : of the table

    Returns
    -------
    array (trial, voxel), read-only, float16, float32 or float64

    Raises
    ------
    NotFound
        There is no such file, or no such table in it.
    BadInput
        The file is no such file, or holds something else.
    """
    if not path.is_file():
        raise NotFound(f"no file {path}", "betas as .npy or .safetensors", "Correct the path.")
    try:
        table = (
            _map_safetensors(path, name) if path.suffix == ".safetensors" else np.load(path, "r", allow_pickle=False)
        )
    except (ValueError, KeyError, OSError) as error:
        if isinstance(error, NotFound):
            raise
        raise BadInput(
            f"{path.name}, which can't be read ({error})", "a .npy or .safetensors file", "Copy it again."
        ) from error
    if table.ndim != 2 or table.dtype.kind != "f":
        raise BadInput(
            f"{path.name} with a table of shape {table.shape} and type {table.dtype}",
            "(trial, voxel), floating",
            "Write betas with a row for every trial.",
        )
    return table


def _map_safetensors(path: Path, name: str) -> NDArray[Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > path.stat().st_size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    if name not in header:
        raise NotFound(f"no table {name!r} in {path.name}", f"one of {', '.join(sorted(header))}", "Correct the name.")
    entry = header[name]
    start = _LENGTH + length + entry["data_offsets"][0]
    return np.memmap(path, _TYPES[entry["dtype"]], "r", start, tuple(entry["shape"]))
