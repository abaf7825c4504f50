"""The API from several processes on one port: they answer together and end together."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from voxelight.app.settings import Settings
from voxelight.app.web import serve
from voxelight.models.errors import BadInput


@pytest.fixture
def api(tmp_path):
    """The process that started the others, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voxelight.app.cli", "serve", "--no-page", "--no-worker", "--processes", "2"]
    with (tmp_path / "log").open("wb") as log:
        environment = os.environ | {"VOXELIGHT_HOME": str(tmp_path / "home")}
        process = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/api/v1/health"
        wait_until(lambda: answers(url) and len(psutil.Process(process.pid).children()) == 2)
        yield process, url
    finally:
        process.kill()
        process.wait()


def answers(url):
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(happens, seconds=60):
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_they_answer_together_and_stop_together(api):
    process, url = api
    children = psutil.Process(process.pid).children()
    wait_until(lambda: all(each.net_connections("inet") for each in children))
    assert all(answers(url) for _ in range(50))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not any(each.is_running() for each in children)
    assert not answers(url)


def test_where_one_ends_by_itself_all_end_and_it_is_said(api, tmp_path):
    process, _ = api
    first, second = psutil.Process(process.pid).children()
    first.kill()
    assert process.wait(60) != 0
    assert not second.is_running()
    assert "a process of 2 that ended with status -9" in (tmp_path / "log").read_text()


def test_none_is_left_where_the_one_that_started_them_is_killed(api):
    process, _ = api
    children = psutil.Process(process.pid).children()
    process.kill()
    wait_until(lambda: not any(each.is_running() for each in children))


@pytest.mark.parametrize("with_what", [{"page": True, "worker": False}, {"page": False, "worker": True}])
def test_page_and_worker_are_in_one_process_only(tmp_path, with_what):
    with pytest.raises(BadInput, match="several processes for the API alone"):
        serve(Settings(home=tmp_path), processes=2, **with_what)


def test_threads_share_two_arenas_of_memory():
    """Without it, a C library that has arenas gives nearly each thread one of its own."""
    script = """
import ctypes, platform, sys, threading
from voxelight.app.web import share_arenas
if platform.libc_ver()[0] != "glibc":
    sys.exit(77)
if sys.argv[1] == "shared":
    assert share_arenas()
malloc, together = ctypes.CDLL(None).malloc, threading.Barrier(24)
malloc.argtypes, malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
def take():
    together.wait()
    malloc(1000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""
    arenas = {}
    for how in ("shared", "apart"):
        done = subprocess.run([sys.executable, "-c", script, how], capture_output=True, text=True)
        if done.returncode == 77:
            pytest.skip("needs glibc, whose malloc has arenas")
        assert done.returncode == 0, done.stderr
        arenas[how] = done.stdout.count("<heap nr=")
    assert arenas["shared"] <= 2 < arenas["apart"]
