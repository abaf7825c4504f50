"""What a parser that is broken or taken over can do: little, for a short time, and nothing that is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from voxelight.models.errors import BadInput, Unavailable
from voxelight.storage.checks import Checks
from voxelight.storage.confine import has_network
from voxelight.storage.formats.accepted import Owner
from voxelight.storage.identity import IdentityKey
from voxelight.storage.sandbox import Limits, Sandbox, Stopped, _server

PLACE = Path(__file__).parent / "evil"


@pytest.fixture
def sandbox(tmp_path):
    with closing(Sandbox(Limits(1 << 28, 3.0), tmp_path / "work")) as opened:
        yield opened


@pytest.fixture
def do(sandbox):
    def _do(task, reads=(), **given):
        with sandbox.run(f"evil_tasks:{task}", given, "scan.nii", reads) as answer:
            return answer.value

    return _do


def has_landlock(do, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("patient")
    try:
        do("read", path=str(secret))
    except Stopped:
        return True
    return False


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        ("swallow", {"bytes": 1 << 30}, "needs more than"),
        ("spin", {}, "took longer than 3 s"),
        ("sleep", {"seconds": 60}, "took longer than 3 s"),
        ("crash", {}, "SIGSEGV"),
        ("die", {}, "want of memory"),
        ("say_nothing", {}, "without an answer"),
        ("babble", {}, "without an answer"),
        ("fail", {}, "can't make sense of (ValueError)"),
        ("fill", {"bytes": 1 << 33}, "can't make sense of (OSError)"),
    ],
)
def test_what_breaks_down_is_a_refusal_and_the_next_file_is_read(do, task, given, said, tmp_path):
    began = time.monotonic()
    with pytest.raises(Stopped) as raised:
        do(task, **given)
    assert said in raised.value.found
    assert "scan.nii" in raised.value.found
    assert "Doe" not in str(raised.value)
    assert time.monotonic() - began < 20
    assert do("answer", answer={"fine": 1}) == {"fine": 1}
    assert not list((tmp_path / "work").iterdir())


def test_a_setting_is_named_that_helps(do):
    with pytest.raises(Stopped, match="VOXELIGHT_INTAKE_MEMORY_BYTES"):
        do("swallow", bytes=1 << 30)
    with pytest.raises(Stopped, match="VOXELIGHT_INTAKE_SECONDS"):
        do("sleep", seconds=60)


def test_limits_grow_with_the_file(do, tmp_path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 28)
    assert do("swallow", reads=[large], bytes=1 << 30) == {"length": 1 << 30}


def test_it_writes_in_its_folder_and_reads_its_file_alone(do, tmp_path):
    if not has_landlock(do, tmp_path):
        pytest.skip("needs Landlock in the kernel, 5.13 or newer, which is not here")
    given = tmp_path / "given"
    given.write_text("voxels")
    assert do("read", reads=[given], path=str(given)) == {"text": "voxels"}
    for path in (tmp_path / "outside", given, Path("/tmp/outside"), tmp_path / "work" / "outside"):
        with pytest.raises(Stopped, match="PermissionError"):
            do("write", reads=[given], path=str(path))
    assert given.read_text() == "voxels"
    assert do("write", path="inside") == {}
    with pytest.raises(Stopped, match="PermissionError"):
        do("link", path=str(given))
    with pytest.raises(Stopped, match="PermissionError"):
        do("read", path=f"/proc/{os.getpid()}/environ")


def test_a_link_in_place_of_a_file_is_not_believed(sandbox, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("patient")
    with sandbox.run("evil_tasks:answer", {"answer": {}}, "scan.nii") as answer:
        (answer.folder / "cleaned").symlink_to(secret)
        for name in ("cleaned", "missing", "../../secret"):
            with pytest.raises(Stopped):
                answer.file(name)


def test_it_knows_no_secret_and_sees_no_network(do, monkeypatch, tmp_path):
    monkeypatch.setenv("VOXELIGHT_DATABASE_URL", "postgresql://who:secret@host/db")
    _server.stop()
    told = do("tell")
    assert not [name for name in told["environment"] if name.startswith("VOXELIGHT")]
    assert told["cwd"].startswith(str(tmp_path / "work"))
    assert len(told["files"]) <= 6  # the standard three, its answer, and what lists them
    with socket.create_server(("127.0.0.1", 0)) as server:
        if has_network() and not told["network"]:
            with pytest.raises(Stopped):
                do("call", port=server.getsockname()[1])


class TakenOver(Sandbox):
    """A sandbox whose parsers, with all that theirs are given, look for the key of the installation."""

    def __init__(self, limits, work, key):
        super().__init__(limits, work)
        self.key, self.found = key, []

    @contextmanager
    def run(self, task, request, name, reads=(), modules=(), sees=()):
        given = {"key": str(self.key), "request": dict(request) | {"task": task}}
        with super().run("evil_tasks:look_for_key", given, name, reads, modules, sees) as answer:
            self.found.append(answer.value)
            yield answer


def test_a_parser_of_dicom_never_gets_the_key(do, write_dicom, tmp_path):
    if not has_landlock(do, tmp_path):
        pytest.skip("needs Landlock in the kernel, 5.13 or newer, which is not here")
    key = IdentityKey(tmp_path / "home" / "identity.key")
    owner = Owner(key, uuid.uuid4(), "07")
    paths = write_dicom(tmp_path / "ward")
    with closing(Checks(Sandbox(Limits(), tmp_path / "work"))) as checks:
        [series] = checks.list_series(paths, "ward")
        with checks.accept_series(series, paths, "a.dcm.zip", owner) as accepted:
            assert accepted.identity.series_uid == key.hash_uid(series.uid), "the key is there, and used"
    with closing(TakenOver(Limits(), tmp_path / "work", key.path)) as taken:
        for accept in (
            lambda: Checks(taken).accept_file(paths[0], "a.dcm", owner),
            lambda: Checks(taken).accept_series(series, paths, "a.dcm.zip", owner),
        ):
            with pytest.raises(Stopped, match="gave nonsense"), accept():
                pass
    assert [answer["opened"] for answer in taken.found] == [[]] * 4
    told = "".join(answer["told"] for answer in taken.found)
    assert "accept_file" in told
    assert key.hash_uid("1.2.3") in told, "what stands for a UID is told"
    assert key.read_text() not in told
    assert str(key.path) not in told


def test_what_it_started_ends_with_it(do):
    pid = do("leave_behind")["pid"]
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("it still runs")


def test_many_threads_ask_at_once_and_one_that_hangs_holds_no_other(do):
    with ThreadPoolExecutor(5) as pool:
        stuck = pool.submit(do, "sleep", seconds=60)
        answers = list(pool.map(lambda number: do("answer", answer={"number": number})["number"], range(24)))
        assert answers == list(range(24))
        with pytest.raises(Stopped):
            stuck.result()


def test_a_server_that_was_ended_is_started_again(do):
    do("answer", answer={})
    assert _server._process
    os.kill(_server._process.pid, signal.SIGKILL)
    _server._process.wait()
    assert do("answer", answer={"again": True}) == {"again": True}


def test_errors_of_ours_come_back_as_they_are(sandbox):
    with (
        pytest.raises(BadInput, match="no file or folder") as raised,
        sandbox.run("voxelight.storage.checks_inside:list_series", {"paths": ["/none"]}, "scans"),
    ):
        pass
    assert not isinstance(raised.value, Stopped)


def test_a_full_disk_is_no_fault_of_the_file(sandbox, monkeypatch):
    told = json.dumps({"failed": "OSError", "errno": 28, "where": []}).encode()
    ended = {"late": False, "code": 0, "memory_bytes": 1, "seconds": 0.1}
    monkeypatch.setattr(_server, "ask", lambda *_: (told, ended))
    with pytest.raises(Unavailable, match="no room"), sandbox.run("evil_tasks:answer", {}, "scan.nii"):
        pass


def test_the_server_has_one_thread_and_leaves_nothing_when_its_process_ends(tmp_path):
    script = f"""
import os, sys
from pathlib import Path
from voxelight.storage.sandbox import Limits, Sandbox, _server
sandbox = Sandbox(Limits(), Path({str(tmp_path)!r}))
modules = ["voxelight.storage.formats.deidentify", "SimpleITK", "h5py", "voxelight.storage.formats.dicom.bundle"]
with sandbox.run("evil_tasks:answer", {{"answer": {{}}}}, "x", modules=modules):
    pass
print(_server._process.pid, len(os.listdir(f"/proc/{{_server._process.pid}}/task")))
sys.stdout.flush()
if len(sys.argv) > 1:
    os.kill(os.getpid(), 9)
sandbox.close()
assert _server._process is None
"""
    for args in ([], ["killed"]):
        environment = os.environ | {"PYTHONPATH": str(PLACE)}
        done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, env=environment)
        pid, threads = done.stdout.split()
        assert int(threads) == 1, done.stderr
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if state == "Z":
                break
            time.sleep(0.05)
        else:
            assert not Path(f"/proc/{pid}").exists()
