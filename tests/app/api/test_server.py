"""The one process on one port, as it is really run: memory, lost clients, signals, refusals."""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import pytest
from sqlalchemy import text
from websockets.sync.client import connect

from voxelight.app import web
from voxelight.app.settings import Settings
from voxelight.models.errors import BadInput, Unavailable

CODE = """
import sys
from pathlib import Path
from voxelight.app.settings import Settings
from voxelight.app.web import serve
from voxelight.models.errors import VoxelightError
try:
    settings = Settings(home=Path(sys.argv[1]), poll_s=0.05)
    serve(settings, host=sys.argv[2], port=int(sys.argv[3]), worker=sys.argv[4] == "1")
except VoxelightError as error:
    print(type(error).__name__, error)
    sys.exit(9)
"""


class Server:
    """A server in a process of its own."""

    def __init__(self, home: Path, log: Path, host: str = "127.0.0.1", worker: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url, self._log = f"http://127.0.0.1:{self.port}", log
        command = [sys.executable, "-c", CODE, str(home), host, str(self.port), str(int(worker))]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=home.parent)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> "Server":
        """Wait until it answers."""
        eventually(lambda: self.process.poll() is not None or self._answers(), 60)
        assert self.process.poll() is None, self.log
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def memory_mb(self, line: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(row.split()[1]) for row in status.splitlines() if row.startswith(line)) / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v1/health").status_code == 200
        except httpx.TransportError:
            return False


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """One installation for this file, since a server takes seconds to start."""
    return Settings(home=tmp_path_factory.mktemp("served") / "home", poll_s=0.05)


@pytest.fixture
def dataset(client) -> str:
    """Name of a data set that may be decoded, a new one for each test."""
    name = f"set-{uuid.uuid4().hex[:8]}"
    client.post("datasets", json={"name": name, "consent": "public", "purpose": "tests"}).raise_for_status()
    return name


@pytest.fixture
def job(client, dataset, upload, make) -> dict[str, Any]:
    """A job that waits for a worker."""
    return client.post("jobs", json=order(dataset, upload("betas.mat", make.betas_mat())["id"])).json()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Server]]:
    """Start a server in a process of its own; none is left behind."""
    servers = []

    def _start(home: Path, **options: Any) -> Server:
        servers.append(Server(home, tmp_path / f"{len(servers)}.log", **options))
        return servers[-1]

    yield _start
    for server in servers:
        server.end()


@pytest.fixture(scope="module")
def server(settings, tmp_path_factory) -> Iterator[Server]:
    """A running server without a worker; the test looks at the same stores through `services`."""
    server = Server(settings.home, tmp_path_factory.mktemp("log") / "server.log")
    yield server.start()
    server.end()


def order(dataset: str, scan: str) -> dict[str, Any]:
    options = {"permutations": 0}
    return {
        "kind": "reconstruct",
        "recipe": "miyawaki-ridge",
        "dataset": dataset,
        "scans": [scan],
        "queue": "cpu",
        "options": options,
    }


def image(axes: int, mebibytes: int) -> tuple[bytes, Iterator[bytes]]:
    """Header of a 3-D or 4-D image, and its voxels, all zero, in pieces of 1 MiB."""
    header = nib.Nifti1Header()
    header.set_data_dtype("int16")
    header.set_data_shape((512, 512, 2 * mebibytes) if axes == 3 else (64, 64, 128, mebibytes))
    header.set_sform([[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]], code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header.binaryblock + bytes(4), (bytes(1 << 20) for _ in range(mebibytes))


def test_page_and_api_answer_on_one_port(server):
    page = httpx.get(server.url)
    assert "text/html" in page.headers["content-type"]
    assert "streamlit" in page.text.lower()
    api = httpx.get(f"{server.url}/api/v1/health")
    assert api.json()["status"] == "ok"
    assert "set-cookie" not in api.headers
    for path in ("/api", "/api/", "/api/docs", "/api/v1"):
        answer = httpx.get(server.url + path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    with connect(f"ws://127.0.0.1:{server.port}/_stcore/stream", origin=server.url):
        pass


@pytest.mark.parametrize("axes", [3, 4])
def test_a_large_upload_takes_flat_memory(dataset, server, axes):
    header, pieces = image(axes, 300)
    httpx.get(f"{server.url}/api/v1/recipes")  # what is imported on first use does not count
    sha256 = hashlib.sha256(header)

    def body() -> Iterator[bytes]:
        yield header
        for piece in pieces:
            sha256.update(piece)
            yield piece

    warm, more = image(axes, 2)
    url = f"{server.url}/api/v1/datasets/{dataset}/scans"
    assert httpx.put(f"{url}/warm{axes}.nii", content=warm + b"".join(more), timeout=60).status_code == 201
    before = server.memory_mb("VmRSS")
    server.forget_peak()
    answer = httpx.put(f"{url}/large{axes}.nii", content=body(), timeout=120)
    assert answer.status_code == 201, answer.text
    assert answer.json()["sha256"] == sha256.hexdigest()
    assert answer.json()["size"] == 352 + (300 << 20)
    assert server.memory_mb("VmHWM") - before < 64


@pytest.mark.parametrize("head", ["Content-Length: 33554432", "Transfer-Encoding: chunked"])
def test_a_client_that_goes_away_leaves_nothing(dataset, services, server, state, head):
    before = state()
    spool = services.settings.spool
    content = bytes(4 << 20)
    if "chunked" in head:
        content = f"{len(content):x}\r\n".encode() + content + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(
            f"PUT /api/v1/datasets/{dataset}/scans/half.nii HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode()
        )
        line.sendall(content)
        eventually(lambda: any(path.stat().st_size > 0 for path in spool.glob("*.part")))
    eventually(lambda: not list(spool.iterdir()))
    assert state() == before
    assert "Traceback" not in server.log


def test_a_fault_is_logged_and_not_told(services, server, job):
    with services.stores.engine.begin() as connection:
        connection.execute(text("UPDATE job SET params = 'no JSON' WHERE id = :id"), {"id": uuid.UUID(job["id"]).hex})
    answer = httpx.get(f"{server.url}/api/v1/jobs/{job['id']}")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "JSON" not in answer.text
    eventually(lambda: "JSONDecodeError" in server.log)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8501", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_that_points_here_reads_nothing(server, host):
    for path in ("/", "/api/v1/datasets"):
        answer = httpx.get(server.url + path, headers={"Host": host})
        assert answer.status_code == 421
        assert answer.json()["type"] == "urn:voxelight:problem:wrong-host"


def test_names_of_this_machine_are_known(server):
    for host in ("localhost", "LOCALHOST:99", "[::1]:8501", f"127.0.0.1:{server.port}"):
        assert httpx.get(f"{server.url}/api/v1/health", headers={"Host": host}).status_code == 200


def test_an_upload_beyond_the_limit_leaves_nothing(dataset, settings, state, start, monkeypatch):
    monkeypatch.setenv("VOXELIGHT_UPLOAD_LIMIT_BYTES", "1000000")
    server, before = start(settings.home).start(), state()
    header, volumes = image(4, 8)
    url = f"{server.url}/api/v1/datasets/{dataset}/scans/large.nii"
    answer = httpx.put(url, content=header + b"".join(volumes))
    assert answer.status_code == 422
    assert "VOXELIGHT_UPLOAD_LIMIT_BYTES" in answer.json()["remedy"]
    assert state() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_well_though_a_job_is_followed(settings, job, start, number):
    server = start(settings.home).start()
    with httpx.stream("GET", f"{server.url}/api/v1/jobs/{job['id']}/events") as events:
        assert next(events.iter_lines()) == "id: 1-queued-0-0"
        assert events.headers["content-type"].startswith("text/event-stream")
        assert server.stop(number) == 0, server.log


def test_a_server_that_others_could_reach_does_not_start_without_accounts(settings, start):
    server = start(settings.home, host="0.0.0.0")
    assert server.process.wait(60) == 9
    assert server.log.startswith("Refused Found the address 0.0.0.0")


def test_a_worker_inside_does_jobs_and_is_one_of_its_name(make, start, tmp_path):
    first = start(tmp_path / "home", worker=True).start()
    with httpx.Client(base_url=f"{first.url}/api/v1/", timeout=90) as client:
        client.post("datasets", json={"name": "a", "consent": "public", "purpose": "tests"}).raise_for_status()
        scan = client.put("datasets/a/scans/betas.mat", content=make.betas_mat()).json()
        job = client.post("jobs", json=order("a", scan["id"])).json()
        with client.stream("GET", f"jobs/{job['id']}/events") as events:
            last = [line for line in events.iter_lines() if line.startswith("id: ")][-1]
    assert last == "id: 1-done-6-0"
    second = start(tmp_path / "home", worker=True)
    assert second.process.wait(60) == 9
    assert "Conflict Found a worker named 'embedded'" in second.log
    assert "Traceback" not in second.log
    assert first.stop() == 0, first.log


def test_a_port_in_use_is_named_with_another(tmp_path):
    settings = Settings(home=tmp_path / "home")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} of 127.0.0.1, in use") as refusal:
            web.serve(settings, port=port)
    assert str(port + 1) in refusal.value.remedy
    assert not settings.home.exists()


@pytest.mark.parametrize("place", [("192.0.2.1", 8501), ("no such host", 8501), ("127.0.0.1", 70000)])
def test_an_address_of_another_machine_is_refused(settings, place):
    with pytest.raises(BadInput, match="an address of this machine"):
        web.serve(settings.model_copy(update={"auth": "keys"}), *place)


def test_the_page_alone_finds_the_services_of_the_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "_CURRENT", web._Current())
    found = []
    for name in ("one", "two"):
        monkeypatch.setenv("VOXELIGHT_HOME", str(tmp_path / name))
        found.append(web.current_services())
        assert web.current_services() is found[-1]
        assert found[-1].settings == Settings(home=tmp_path / name)
    assert found[0] is not found[1]
    for services in found:
        services.close()
    assert os.environ["VOXELIGHT_HOME"].endswith("two")


def _burn_in(header, _place) -> None:
    header.BurnedInAnnotation = "YES"


def test_the_walk_of_the_page_of_documents_works(make, start, write_dicom, tmp_path):
    """Every command of `docs/http.md`, as it stands."""
    write_dicom(tmp_path / "slices", slices=16, shape=(40, 48), change=_burn_in)
    shutil.make_archive(str(tmp_path / "series"), "zip", tmp_path / "slices")
    (tmp_path / "t1.nii.gz").write_bytes(make.nifti((40, 40, 40)))
    (tmp_path / "betas.mat").write_bytes(make.betas_mat())
    server = start(tmp_path / "home", worker=True).start()
    text = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    assert "http://127.0.0.1:8501" in script
    script = script.replace("http://127.0.0.1:8501", server.url)
    walk = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"VOXELIGHT_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert walk.returncode == 0, walk.stdout[-2000:] + walk.stderr
    whole = (tmp_path / "whole").read_bytes()
    assert len(whole) > 100
    assert (tmp_path / "first-100").read_bytes() == whole[:100]
    assert (tmp_path / "thumbnail.png").read_bytes().startswith(b"\x89PNG")
    assert b"Doe^Jane" in (tmp_path / "segmentation.dcm").read_bytes()


LONG = "GET /api/v1/exports?run=" + "0" * 70_000 + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize("sent", [LONG, "what is this\r\n\r\n"], ids=["a long address", "no HTTP"])
def test_what_is_no_request_is_a_problem_too(server, is_problem, sent):
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(sent.encode())
        answered = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answered.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    problem = is_problem(httpx.Response(int(status.split()[1]), headers=headers, content=body), 400)
    assert "64 KiB" in problem["expected"]
