"""Arrays too large for memory, written some rows at a time, and how far that has come."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelight.storage.formats.streams import replacing


class Progress:
    """How many steps of a piece of work are done, kept in a file beside it.

    Parameters
    ----------
    path : the file; where it is missing, nothing is done
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps = int(json.loads(path.read_text())["steps"]) if path.is_file() else 0

    def note(self, steps: int) -> None:
        """Write down how many steps are done."""
        with replacing(self.path) as file:
            file.write(json.dumps({"steps": steps}).encode())
        self.steps = steps


class RowFile:
    """A float32 ``.npy`` by plain file operations: written pages of a memory map would stay in this process's memory.

    Parameters
    ----------
    path : the file
    shape : (row, column)
    fresh : make it anew, else go on with what is there
    """

    def __init__(self, path: Path, shape: tuple[int, int], fresh: bool) -> None:
        self.path = path
        mapped = np.lib.format.open_memmap(path, mode="w+" if fresh else "r", dtype=np.float32, shape=shape)
        self._offset, self._columns = mapped.offset, shape[1]

    def write(self, first: int, rows: NDArray[np.float32]) -> None:
        """Write rows from this one on."""
        with self.path.open("r+b") as file:
            file.seek(self._offset + 4 * self._columns * first)
            file.write(np.ascontiguousarray(rows, dtype="<f4").data)

    def read(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Read some rows into memory."""
        found = np.empty((len(rows), self._columns), "<f4")
        with self.path.open("rb") as file:
            for place, row in enumerate(rows.tolist()):
                file.seek(self._offset + 4 * self._columns * row)
                file.readinto(found[place].data)
        return found
