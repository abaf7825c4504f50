"""Parsers of bytes from elsewhere, each run in a child process that can do little harm and is gone afterwards.

A child may take so much memory and time and no more, write below one empty folder only, read its input and its own
program only, and sees no network. What comes back is JSON and files of that folder, which the caller checks; nothing is
unpickled. A child that dies, hangs or answers nonsense is a refusal of its file.
"""

import atexit
import errno
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from voxelight.models import errors
from voxelight.models.errors import BadInput, Unavailable, VoxelightError
from voxelight.storage.formats.dicom import refusals
from voxelight.storage.formats.streams import readable

_log = logging.getLogger(__name__)
_ANSWER_BYTES = 256 << 20
_STATUS_BYTES = 1 << 12
_STARTS = 2  # of the server, once more where somebody ended it
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


class Stopped(BadInput):
    """A file whose reader took too much, crashed or answered nonsense; whoever reads many files goes on without it."""


@dataclass(frozen=True)
class Limits:
    """What one child may take.

    Parameters
    ----------
    memory_bytes : of address space, beside what the program itself takes and `MEMORY_TIMES` the size of its input
    seconds : from start to end, and on the processor, beside the time that reading its input at `BYTES_A_SECOND` takes
    """

    memory_bytes: int = 4 << 30
    seconds: float = 120.0

    MEMORY_TIMES: ClassVar[int] = 4
    BYTES_A_SECOND: ClassVar[int] = 4 << 20


@dataclass(frozen=True)
class Answer:
    """What a task gave.

    Parameters
    ----------
    value : plain data, for the caller to check
    folder : where it wrote files; gone when the block is left
    memory_bytes : the most that its process had in memory
    seconds : that it took on the processor
    """

    value: dict[str, Any]
    folder: Path
    memory_bytes: int
    seconds: float

    def file(self, name: str) -> Path:
        """Return a file that the task wrote.

        Raises
        ------
        Stopped
            There is none, or it is a link or something else that is no plain file.
        """
        path = self.folder / name
        if Path(name).name != name or not path.exists() or not stat.S_ISREG(path.lstat().st_mode):
            raise Stopped("a check that did not leave its file", "the file", "Send it again, or report it.")
        return path


class Sandbox:
    """Runs tasks confined.

    Parameters
    ----------
    limits : Limits
    work : folder on a disk with room; each task gets an empty folder below it
    """

    def __init__(self, limits: Limits, work: Path) -> None:
        self.limits = limits
        self._work = work
        self._held = True
        _server.hold()

    @contextmanager
    def opened_folder(self) -> Iterator[Path]:
        """Give an empty folder for one task, as long as the block."""
        self._work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._work, prefix="checked-") as folder:
            yield Path(folder)

    @contextmanager
    def run(
        self,
        task: str,
        request: Mapping[str, Any],
        name: str,
        reads: Sequence[Path] = (),
        modules: Sequence[str] = (),
        sees: Sequence[Path] = (),
    ) -> Iterator[Answer]:
        """Do a task; its folder is there as long as the block.

        Parameters
        ----------
        task : `module:function`, which takes the request and its folder and returns plain data
        request : plain data
        name : what the person calls the file, for a refusal
        reads : files and folders that it reads, by whose size its limits grow
        modules : what to import before, once for all tasks
        sees : what it may read besides

        Raises
        ------
        VoxelightError
            As the task raises it; `Stopped` where it took too much, crashed, or raised something else.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(self.opened_folder())
            found = [path.resolve() for path in reads]
            length = sum(_size(path) for path in found)
            memory = self.limits.memory_bytes + Limits.MEMORY_TIMES * length
            seconds = self.limits.seconds + length / Limits.BYTES_A_SECOND
            message = {
                "task": task,
                "modules": [task.split(":")[0], *modules],
                "folder": str(folder.resolve()),
                "memory_bytes": memory,
                "seconds": seconds,
                "file_bytes": max(1 << 30, memory),
            }
            told = {"request": dict(request), "reads": [*map(str, found), *(str(path.resolve()) for path in sees)]}
            content, status = _server.ask(message, json.dumps(told).encode())
            value = _read_answer(content, status, name, memory, seconds)
            yield Answer(value, folder, int(status["memory_bytes"]), float(status["seconds"]))

    def close(self) -> None:
        """End the server of this process, unless another sandbox is open."""
        if self._held:
            self._held = False
            _server.release()


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0


class _Server:
    """The process that forks children: one for this process, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders <= 0:
                self._stop()

    def stop(self) -> None:
        with self._lock:
            self._stop()

    def ask(self, message: dict[str, Any], request: bytes) -> tuple[bytes, dict[str, Any]]:
        """Have a task done; return what it wrote, and how it ended."""
        for attempt in range(_STARTS):
            with ExitStack() as stack:
                mine, theirs = _pipes(stack)
                try:
                    self._send(json.dumps(message).encode(), theirs)
                except OSError:
                    self.stop()
                    continue
                for end in theirs:
                    os.close(end)
                theirs.clear()
                writing, reading, ending = mine
                _write_all(writing, request)
                mine.remove(writing)
                os.close(writing)
                content = _read_all(reading, _ANSWER_BYTES)
                mine.remove(reading)
                os.close(reading)  # a child that says more than that ends by it
                status = _read_all(ending, _STATUS_BYTES)
            if status:
                return content, json.loads(status)
            if attempt + 1 == _STARTS:
                break
        raise Unavailable(
            "no process that reads files from elsewhere", "one", "Look at the server's log; start the server again."
        )

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        with self._lock:
            if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
                self._start()
            assert self._control is not None
            socket.send_fds(self._control, [message], descriptors)

    def _start(self) -> None:
        if self._owner == os.getpid():
            self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ} | _ONE_THREAD
        with theirs:
            command = [sys.executable, "-P", "-m", "voxelight.storage.sandbox_server", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(theirs.fileno(),),
                env=environment, cwd="/",
            )  # fmt: skip
        self._control, self._owner = ours, os.getpid()

    def _stop(self) -> None:
        process, control, mine = self._process, self._control, self._owner == os.getpid()
        self._process = self._control = None
        if control is not None:
            control.close()  # which it ends by, and its children with it
        if process is not None and mine:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_server = _Server()
atexit.register(_server.stop)


def _pipes(stack: ExitStack) -> tuple[list[int], list[int]]:
    """Return the ends for this process (request, answer, status), and those for the server."""
    (asked, writing), (reading, answer), (ending, status) = os.pipe(), os.pipe(), os.pipe()
    mine, theirs = [writing, reading, ending], [asked, answer, status]
    for ends in (mine, theirs):
        stack.callback(_close_all, ends)
    return mine, theirs


def _close_all(ends: list[int]) -> None:
    for end in ends:
        os.close(end)


def _write_all(end: int, content: bytes) -> None:
    view = memoryview(content)
    with suppress(BrokenPipeError):  # it is gone: its end says why
        while view:
            view = view[os.write(end, view) :]


def _read_all(end: int, most: int) -> bytes:
    parts, length = [], 0
    while length <= most and (part := os.read(end, 1 << 20)):
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def _read_answer(content: bytes, status: dict[str, Any], name: str, memory: int, seconds: float) -> dict[str, Any]:
    """Return what a child gave, or raise what it refuses by."""
    if status["late"] or status["code"] == -signal.SIGXCPU:
        raise _stopped(f"{name}, whose check took longer than {seconds:.0f} s", "intake_seconds")
    if status["code"] == 3:
        raise _short(name, memory)
    if status["code"] != 0:
        raise _crashed(name, int(status["code"]))
    try:
        answer: dict[str, Any] = json.loads(content)
        if "value" in answer:
            return dict(answer["value"])
        refusal = _find_refusal(answer)
        failed, number = str(answer.get("failed")), answer.get("errno")
        where = " ".join(str(each) for each in answer.get("where", ()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _crashed(name, 0) from None
    if refusal is not None:
        raise refusal
    if failed == "MemoryError":
        raise _short(name, memory)
    if number in (errno.ENOSPC, errno.EDQUOT):
        raise Unavailable("no room on the server's disk", "room for a copy of the file", "Make room, then try again.")
    _log.warning("The check of a file ended by %s, which its reader does not foresee: %s", failed, where)
    raise Stopped(
        f"{name}, which its reader can't make sense of ({failed})", "an intact file", "Write it again from its source."
    )


def _find_refusal(answer: dict[str, Any]) -> VoxelightError | None:
    """Return the error that a child gave, of the nearest known class; None where it gave none of ours."""
    if "refused" not in answer:
        return None
    said = [str(answer[part]) for part in ("found", "expected", "remedy")]
    for name in answer["refused"]:
        for known in (errors, refusals, sys.modules[__name__]):
            cls = getattr(known, str(name), None)
            if isinstance(cls, type) and issubclass(cls, VoxelightError):
                return cls(*said)
    return BadInput(*said)


def _short(name: str, memory: int) -> Stopped:
    return _stopped(f"{name}, whose check needs more than {readable(memory)} of memory", "intake_memory_bytes")


def _stopped(found: str, setting: str) -> Stopped:
    return Stopped(
        found, "a file that is read within the limits of this installation",
        f"The file is damaged or very large: write it again or split it, or raise VOXELIGHT_{setting.upper()}.",
    )  # fmt: skip


def _crashed(name: str, code: int) -> Stopped:
    why = signal.Signals(-code).name if code < 0 else "without an answer"
    if code == -signal.SIGKILL:
        why = "ended by the system, for want of memory most likely"
    found = f"{name}, at which its reader broke down ({why})"
    return Stopped(found, "an intact file", "Write it again from its source.")
