"""HDF5 files: opened for reading, with what a broken one says in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, VoxelightError
from voxelight.storage.formats.sniff import NAMES, sniff

# KeyError: a link that leads nowhere, to another file for one; the others: types and sizes that no writer means.
_FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)


@contextmanager
def opened_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file; arrays stay on the disk until they are sliced.

    Parameters
    ----------
    path : HDF5, or MATLAB 7.3, which is HDF5

    Raises
    ------
    BadInput
        There is no such file, it is of another kind, or it is cut short or damaged, while it is open too.
    """
    kind = sniff(path)
    if kind not in {"hdf5", "mat-7.3"}:
        raise BadInput(f"{NAMES[kind]} under the name {path.name}", "an HDF5 file", "Convert it; renaming won't do.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _FAULTS as error:
        if isinstance(error, VoxelightError):
            raise
        size = path.stat().st_size
        raise BadInput(
            f"{path.name} of {size} bytes, cut short or damaged ({_shorten(error)})",
            "a whole HDF5 file",
            "Copy it again.",
        ) from error


def find_array(file: h5py.File, *names: str, axes: int | None = None) -> h5py.Dataset:
    """Return the first array that has one of these names; nothing of it is read.

    Parameters
    ----------
    file : from `opened_hdf5`
    names : in order of preference
    axes : how many it must have

    Raises
    ------
    BadInput
        There is none, or it has other axes or holds no numbers.
    """
    where = Path(file.filename).name
    found = next((file[name] for name in names if name in file and isinstance(file[name], h5py.Dataset)), None)
    if found is None:
        there = ", ".join(list_arrays(file)[:8]) or "no array"
        raise BadInput(
            f"{where} with {there}", f"an array named {' or '.join(names)}", "Rename it, or choose the file."
        )
    if found.dtype.kind not in "iufb" or (axes is not None and found.ndim != axes):
        raise BadInput(
            f"{found.name} in {where} of shape {found.shape} and type {found.dtype}",
            f"numbers{'' if axes is None else f' along {axes} axes'}",
            "Check that this is the file you meant.",
        )
    return found


def list_arrays(file: h5py.File) -> list[str]:
    """Return the names of all arrays, in groups too."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def read_texts(array: h5py.Dataset) -> NDArray[np.str_]:
    """Read an array of texts: array, str."""
    values: Any = array[()]
    return np.array([each.decode() if isinstance(each, bytes) else str(each) for each in np.ravel(values).tolist()])


def _shorten(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
