"""Tasks that do what a parser that was taken over would: for the tests of the sandbox alone."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from voxelight.storage.confine import has_network


def swallow(given, folder):
    return {"length": len(bytearray(given["bytes"]))}


def spin(given, folder):
    while True:
        pass


def sleep(given, folder):
    time.sleep(given["seconds"])
    return {}


def crash(given, folder):
    ctypes.string_at(0)


def die(given, folder):
    os.kill(os.getpid(), signal.SIGKILL)


def say_nothing(given, folder):
    os._exit(0)


def babble(given, folder):
    for number in range(3, 64):
        try:
            os.write(number, b'{"value": [[[[')
        except OSError:
            continue
    os._exit(0)


def answer(given, folder):
    return given["answer"]


def fail(given, folder):
    raise ValueError("Doe, Jane")


def write(given, folder):
    Path(given["path"]).write_text("written")
    return {}


def read(given, folder):
    return {"text": Path(given["path"]).read_text()}


def look_for_key(given, folder):
    """Try to open the key of the installation, and its folder; say what came of it, and all that was told here."""
    key = Path(given["key"])
    tries = {"key": key.read_bytes, "folder": lambda: list(key.parent.iterdir())}
    opened = []
    for name, look in tries.items():
        try:
            look()
            opened.append(name)
        except PermissionError:
            pass
    return {"opened": opened, "told": repr((given["request"], dict(os.environ))), "uids": ["1.2.3"]}


def fill(given, folder):
    with (folder / "full").open("wb") as file:
        file.truncate(given["bytes"])
    return {}


def link(given, folder):
    (folder / "cleaned").symlink_to(given["path"])
    return {}


def tell(given, folder):
    files = [str(path) for path in Path("/proc/self/fd").iterdir()]
    return {"environment": dict(os.environ), "cwd": str(Path.cwd()), "network": has_network(), "files": files}


def call(given, folder):
    with socket.create_connection(("127.0.0.1", given["port"]), 2):
        return {}


def leave_behind(given, folder):
    return {"pid": subprocess.Popen(["sleep", "1000"]).pid}
