"""Several processes that answer on one listening socket; where one ends by itself, all end."""

import os
import signal
import threading
from types import FrameType

from voxelight.models.errors import Unavailable


def fork(count: int) -> bool:
    """Make processes that go on as this one would have, and wait for them; call it before there are threads.

    Signals to stop are passed on. Where this process is killed, the others notice and stop too.

    Parameters
    ----------
    count : of processes

    Returns
    -------
    bool
        True in each of the new processes; False in the old one, once all have stopped as they were told.

    Raises
    ------
    Unavailable
        In the old one: a process ended by itself.
    """
    alive, held = os.pipe()  # nothing is ever written: the end of the pipe says that the old process is gone
    children: set[int] = set()
    for _ in range(count):
        child = os.fork()
        if child == 0:
            os.close(held)
            os.setpgid(0, 0)  # Ctrl-C in a terminal goes to the old process alone, which passes it on once
            threading.Thread(target=_stop_with, args=(alive,), daemon=True).start()
            return True
        children.add(child)
    os.close(alive)
    try:
        _wait(children)
    finally:
        os.close(held)
    return False


def _stop_with(alive: int) -> None:
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _wait(children: set[int]) -> None:
    told = threading.Event()

    def stop(_number: int, _frame: FrameType | None = None) -> None:
        told.set()
        for child in children:
            os.kill(child, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    problem = None
    while children:
        child, status = os.wait()
        children.discard(child)
        if not told.is_set():
            problem = f"a process of {len(children) + 1} that ended with status {os.waitstatus_to_exitcode(status)}"
            stop(signal.SIGTERM)
    if problem is not None:
        raise Unavailable(problem, "all of them to go on", "Look at what it logged last, and start them again.")
