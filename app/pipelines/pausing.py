"""How a training that is a job is left: with a checkpoint, once its job is not to go on."""

import time
from collections.abc import Callable

ASK_EVERY_S = 1.0


def ask_now_and_then(go_on: Callable[[], None]) -> Callable[[], bool]:
    """Return what a training asks before each step; where the job is to be left, it pauses with a checkpoint.

    Parameters
    ----------
    go_on : raises where the job is to be left
    """
    asked = time.monotonic()

    def ask() -> bool:
        nonlocal asked
        if time.monotonic() - asked < ASK_EVERY_S:
            return False
        asked = time.monotonic()
        try:
            go_on()
        except Exception:  # whatever it is, the checkpoint comes first; the caller asks again and meets it
            return True
        return False

    return ask
