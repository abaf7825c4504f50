"""Read and prepare the next item while the device works on this one."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """One item at most is made ahead, in one thread; what nobody comes for is dropped.

    Parameters
    ----------
    make : key -> what is read; must not touch what the caller uses meanwhile
    """

    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")
        self._waiting: tuple[str, Future[T]] | None = None

    def start(self, key: str | None) -> None:
        """Begin with an item, unless it is under way; None: there is none."""
        if key is not None and (self._waiting is None or self._waiting[0] != key):
            self.drop()
            self._waiting = key, self._thread.submit(self._make, key)

    def take(self, key: str) -> T:
        """Return an item, made ahead or now; an error that it met is raised here."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return self._make(key)
        if waiting[0] == key:
            return waiting[1].result()
        waiting[1].cancel()
        return self._make(key)

    def drop(self) -> None:
        """Forget what was made ahead."""
        if self._waiting is not None:
            self._waiting[1].cancel()
            self._waiting = None
