"""What the next steps of a training need, made while the device computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """What the next steps need, made in a thread while the device computes.

    Parameters
    ----------
    make : number of a step -> what it needs
    total : steps in all
    depth : how many are made ahead
    """

    def __init__(self, make: Callable[[int], T], total: int, depth: int = 2) -> None:
        self._make, self._total, self._depth = make, total, depth
        self._threads = ThreadPoolExecutor(1)
        self._waiting: dict[int, Future[T]] = {}

    def take(self, number: int) -> T:
        """Return what a step needs."""
        for ahead in range(number, min(number + self._depth + 1, self._total)):
            if ahead not in self._waiting:
                self._waiting[ahead] = self._threads.submit(self._make, ahead)
        return self._waiting.pop(number).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
