"""Take away from a process what a parser does not need: memory, time, files, the network. Linux; less elsewhere."""

import ctypes
import os
import resource
import signal
import socket
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
# Numbers of the calls of Landlock, the same on every architecture (linux/landlock.h, kernel 5.13 and later).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_MAKE_DIR, _MAKE_REG = 1 << 7, 1 << 8
_REMOVE = 1 << 4 | 1 << 5
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_NO_TCP, _SCOPED = 3, 3  # bind and connect; abstract sockets and signals
_READING = _EXECUTE | _READ_FILE | _READ_DIR
_WITHIN = _READING | _WRITE_FILE | _REMOVE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_FILES = 512


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def leave_network() -> bool:
    """Move this process to a network of its own, without any interface; False where that is not permitted.

    It must have one thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and libc.unshare(_CLONE_NEWNET) == 0:
        return True
    if uid == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def die_with_parent() -> None:
    """Let the kernel end this process when the one that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_resources(memory_bytes: int, seconds: float, file_bytes: int) -> None:
    """Limit what this process may take from here on; it is also the first to go where the machine has no memory left.

    Parameters
    ----------
    memory_bytes : address space beside what it has now
    seconds : on the processor
    file_bytes : of one file that it writes
    """
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: max(1, round(seconds)),
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: _FILES,
    }
    with suppress(OSError), Path("/proc/self/statm").open() as file:
        limits[resource.RLIMIT_AS] = int(file.read().split()[0]) * resource.getpagesize() + memory_bytes
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # At the hard limit of time the kernel ends a process without saying why.
        beyond = most + 2 if what == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else most
        resource.setrlimit(what, (most, beyond))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def limit_files(folder: Path, reads: Iterable[Path]) -> int:
    """Let this process write below one folder only, and read there, in some other places and its own program.

    Parameters
    ----------
    folder : where it may write
    reads : files and folders that it may read

    Returns
    -------
    int
        The version of Landlock in force, 0 where the kernel has none; then nothing is limited here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = int(libc.syscall(_CREATE_RULESET, None, 0, 1)) if sys.platform == "linux" else 0
    if version < 1:
        return 0
    known = (1 << 13) - 1 | (_REFER if version > 1 else 0) | (_TRUNCATE if version > 2 else 0)
    known |= _IOCTL_DEV if version > 4 else 0
    asked = _Ruleset(known, _NO_TCP if version > 3 else 0, _SCOPED if version > 5 else 0)
    length = 24 if version > 5 else 16 if version > 3 else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(asked), length, 0)
    if ruleset < 0:
        return 0
    try:
        _allow(libc, ruleset, folder, known & _WITHIN)
        _allow(libc, ruleset, Path(os.devnull), _READ_FILE | _WRITE_FILE)
        for path in (*_own_program(), *reads):
            _allow(libc, ruleset, path, _READING)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return version if libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0 else 0
    finally:
        os.close(ruleset)


def close_all_but(kept: Iterable[int]) -> None:
    """Close every open file of this process but these and the standard three."""
    numbers = sorted({0, 1, 2, *kept})
    for first, following in zip(numbers, [*numbers[1:], 1 << 16], strict=True):
        os.closerange(first + 1, following)


def has_network() -> bool:
    """Whether this process sees an interface that leads out of the machine."""
    return any(name != "lo" for _, name in socket.if_nameindex())


def _own_program() -> Iterator[Path]:
    """Yield where the interpreter, its libraries and this package lie, and what every program reads."""
    for name in (
        "/usr",
        "/lib",
        "/lib64",
        "/etc",
        "/opt",
        "/proc/self",
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/proc/sys",
        "/dev/urandom",
    ):
        yield Path(name)
    yield from {Path(sys.prefix), Path(sys.base_prefix), *(Path(path) for path in sysconfig.get_paths().values())}
    here = Path(__file__).resolve().parent
    yield from (here.parent / name for name in ("app", "storage", "neuro", "medseg", "models"))
    yield from (Path(path) for path in sys.path if path and Path(path).name in {"site-packages", "dist-packages"})


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there need not be allowed
    try:
        if not path.is_dir():
            rights &= _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE
        rule = _Beneath(rights, place)
        libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
    finally:
        os.close(place)
