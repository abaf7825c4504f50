"""The process that parsers come from: it imports them once, and forks one confined child for each task.

It is started by `storage/sandbox.py`, has one thread, and ends with whoever started it. A message is JSON with three
descriptors: where a child reads its request, where it writes its answer, and where this process says how it ended.
"""

import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from voxelight.models.errors import VoxelightError
from voxelight.storage.confine import close_all_but, die_with_parent, leave_network, limit_files, limit_resources

MESSAGE_BYTES = 1 << 16
Task = Callable[[dict[str, Any], Path], dict[str, Any]]


@dataclass
class _Child:
    pid: int
    status: int
    deadline: float
    late: bool = False


class Server:
    """Forks a child for each message.

    Parameters
    ----------
    control : socket on which messages come; its end is the end of this process
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, _Child] = {}
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)

    def run(self) -> None:
        """Serve until the other end is closed."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(self._woken, selectors.EVENT_READ)
        while True:
            due = min((child.deadline for child in self._children.values()), default=None)
            ready = {key.fd for key, _ in selector.select(None if due is None else max(0.0, due - time.monotonic()))}
            if self._woken in ready:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4096)
            self._reap()
            self._stop_late()
            if self._control.fileno() in ready and not self._take():
                break
        for child in self._children.values():
            _kill(child.pid)

    def _take(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 3)
        if not message:
            return False
        request, answer, status = descriptors
        asked = json.loads(message)
        for name in asked["modules"]:
            with suppress(ImportError):  # the child will say what is missing
                importlib.import_module(name)
        gc.freeze()  # so that a collection in a child does not copy every page
        pid = os.fork()
        if pid == 0:
            _serve(asked, request, answer)
        os.close(request)
        os.close(answer)
        self._children[pid] = _Child(pid, status, time.monotonic() + asked["seconds"])
        return True

    def _reap(self) -> None:
        while self._children:
            try:
                pid, code, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is None:
                continue
            _kill(pid)  # what it started and left
            told = {
                "code": os.waitstatus_to_exitcode(code),
                "late": child.late,
                "memory_bytes": usage.ru_maxrss * 1024,
                "seconds": usage.ru_utime + usage.ru_stime,
            }
            with suppress(OSError):
                os.write(child.status, json.dumps(told).encode())
            os.close(child.status)

    def _stop_late(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.deadline <= now:
                child.late, child.deadline = True, now + 1
                _kill(child.pid)


def _kill(group: int) -> None:
    for kill in (os.killpg, os.kill):  # it may not have made its group yet
        with suppress(ProcessLookupError, PermissionError):
            kill(group, signal.SIGKILL)


def _serve(asked: dict[str, Any], request: int, answer: int) -> NoReturn:
    """Be a child: confine this process, do one task, answer and end."""
    code = 1
    try:
        gc.disable()  # it ends before there is much to collect, and looking at every object would copy its page
        os.setsid()
        die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        close_all_but((request, answer))
        os.dup2(1, 2)  # libraries repeat what a file says, and that is for no log
        folder = Path(asked["folder"])
        os.chdir(folder)
        os.umask(0o077)
        os.environ["TMPDIR"] = os.environ["HOME"] = tempfile.tempdir = str(folder)
        with os.fdopen(request, "rb") as file:
            given = json.load(file)
        limit_files(folder, [Path(path) for path in given["reads"]])
        limit_resources(asked["memory_bytes"], asked["seconds"], asked["file_bytes"])
        reply = json.dumps(_do(asked["task"], given["request"], folder)).encode()
        with os.fdopen(answer, "wb") as out:
            out.write(reply)
        code = 0
    except MemoryError:
        code = 3
    finally:
        os._exit(code)


def _do(task: str, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    module, name = task.split(":")
    try:
        call: Task = getattr(importlib.import_module(module), name)
        return {"value": call(given, folder)}
    except VoxelightError as error:
        kinds = [cls.__name__ for cls in type(error).__mro__ if issubclass(cls, VoxelightError)]
        return {"refused": kinds, "found": error.found, "expected": error.expected, "remedy": error.remedy}
    except MemoryError:
        return {"failed": "MemoryError", "errno": None, "where": []}
    except Exception as error:  # the boundary: whatever a parser raises is a refusal of its file
        # Without its text, which may repeat what the file holds.
        where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        return {"failed": type(error).__name__, "errno": getattr(error, "errno", None), "where": where[-8:]}


def main() -> None:
    """Serve on the socket whose descriptor is the one argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    leave_network()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Server(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
