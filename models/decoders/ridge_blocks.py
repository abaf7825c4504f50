"""Blocks of a large table on their way to a device and back, copied while it computes."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelight.models.training.ahead import Ahead

_THREADS = 4


class Reader:
    """Reads blocks of columns, the next one while the last is worked on.

    Parameters
    ----------
    values : array or memory map (row, column)
    width : columns at once
    device : where they go
    """

    def __init__(self, values: Any, width: int, device: torch.device) -> None:
        self._values, self._device = values, device
        rows, count = values.shape
        self._blocks = [slice(start, min(start + width, count)) for start in range(0, count, width)]
        dtype = torch.from_numpy(np.empty(0, values[:1, :1].dtype)).dtype
        self._rooms = [_make_room(rows * min(width, count), dtype, device) for _ in range(2)]
        self._threads = ThreadPoolExecutor(_THREADS)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield columns and their values (row, column); the next step overwrites them where they stay on the CPU."""
        with self._threads, Ahead(self._read, len(self._blocks), depth=1) as ahead:
            for number, columns in enumerate(self._blocks):
                yield columns, ahead.take(number).to(self._device, non_blocking=True)
                if self._device.type == "cuda":
                    torch.cuda.current_stream(self._device).synchronize()

    def __len__(self) -> int:
        return len(self._blocks)

    def _read(self, number: int) -> Tensor:
        columns, rows = self._blocks[number], self._values.shape[0]
        width = columns.stop - columns.start
        block = self._rooms[number % 2][: rows * width].view(rows, width)
        into, step = block.numpy(), -(-rows // _THREADS)

        def copy(start: int) -> None:
            np.copyto(into[start : start + step], self._values[start : start + step, columns])

        list(self._threads.map(copy, range(0, rows, step)))
        return block


class Writer:
    """Writes rows in a thread; waits where it falls behind by two blocks.

    Parameters
    ----------
    out : array or memory map (row, column)
    """

    def __init__(self, out: NDArray[Any]) -> None:
        self._out, self._thread = out, ThreadPoolExecutor(1)
        self._dtype = torch.from_numpy(np.empty(0, out.dtype)).dtype
        self._pending: list[Future[None]] = []
        self._rooms: list[Tensor] = []

    def write(self, place: NDArray[np.intp], rows: Tensor) -> None:
        """Write some rows (row, column), which may be changed afterwards."""
        rows = rows.to(self._dtype).contiguous()
        while len(self._pending) > 1:
            self._pending.pop(0).result()
        if not self._rooms or self._rooms[0].numel() < rows.numel():
            self._wait()
            self._rooms = [_make_room(rows.numel(), self._dtype, rows.device) for _ in range(2)]
        self._rooms.reverse()
        block = self._rooms[0][: rows.numel()].view(rows.shape)
        block.copy_(rows, non_blocking=True)
        done = torch.cuda.Event() if rows.is_cuda else None  # type: ignore[no-untyped-call]
        if done is not None:
            done.record()
        self._pending.append(self._thread.submit(self._copy, place, block.numpy(), done))

    def _copy(self, place: NDArray[np.intp], block: NDArray[Any], done: Any) -> None:
        if done is not None:
            done.synchronize()
        whole = len(place) == place[-1] - place[0] + 1
        self._out[slice(place[0], place[-1] + 1) if whole else place] = block

    def _wait(self) -> None:
        while self._pending:
            self._pending.pop(0).result()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._wait()


def _make_room(numbers: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(numbers, dtype=dtype, pin_memory=device.type == "cuda")
