"""Lines that break: a transport that cuts real connections, before a real server."""

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest

from voxelight.app.client import Client
from voxelight.app.schemas import JobRequest
from voxelight.models.errors import BadInput, Conflict, Unavailable


class Cut(httpx.SyncByteStream):
    """An answer of which only the first bytes come."""

    def __init__(self, stream: httpx.SyncByteStream, count: int) -> None:
        self._stream, self._count = stream, count

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            yield piece[: self._count]
            self._count -= len(piece)
            if self._count <= 0:
                raise httpx.ReadError("cut")

    def close(self) -> None:
        self._stream.close()


class Breaking(httpx.HTTPTransport):
    """Sends requests on, and does to their answers what it is told for the next ones."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Callable[[httpx.Response], httpx.Response]] = []
        self.seen: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = super().handle_request(request)
        return self.faults.pop(0)(answer) if self.faults else answer


def lose(answer: httpx.Response) -> httpx.Response:
    """The server has done it, and nobody hears of it."""
    answer.close()
    raise httpx.ReadError("lost")


def cut(count: int) -> Callable[[httpx.Response], httpx.Response]:
    def _cut(answer: httpx.Response) -> httpx.Response:
        answer.stream = Cut(answer.stream, count)
        return answer

    return _cut


def keep(answer: httpx.Response) -> httpx.Response:
    return answer


@pytest.fixture
def line() -> Breaking:
    return Breaking()


@pytest.fixture
def client(url, line) -> Iterator[Client]:
    with httpx.Client(base_url=url, transport=line, timeout=60) as http:
        yield Client(http=http)


@pytest.fixture
def order(client, place, betas) -> JobRequest:
    client.scans.put(betas, place)
    options = {"permutations": 0}
    return JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset="figures", queue="cpu", options=options)


def test_a_submission_whose_answer_is_lost_is_one_job(client, line, order):
    line.faults = [lose]
    job = client.jobs.submit(order)
    assert [each.id for each in client.jobs.list()] == [job.id]


def test_what_may_not_be_repeated_is_sent_once(client, line, place):
    from voxelight.app.schemas import DatasetRequest

    line.faults, line.seen = [lose], []
    with pytest.raises(Unavailable):
        client.datasets.create(DatasetRequest(name="another"))
    assert len(line.seen) == 1


def test_a_download_goes_on_where_it_broke(client, line, place, noise, tmp_path):
    scan = client.scans.put(noise, place)
    line.faults, line.seen, heard = [cut(1_000_000), cut(1_000_000)], [], []
    place_of = client.scans.save(scan.id, tmp_path / "out.nii", lambda done, total: heard.append((done, total)))
    assert hashlib.sha256(place_of.read_bytes()).hexdigest() == scan.sha256
    assert "Range" not in line.seen[0].headers
    assert all(request.headers["Range"].startswith("bytes=") for request in line.seen[1:])
    assert len(line.seen) == 3
    assert heard[-1] == (scan.size, scan.size)


def test_a_download_that_was_damaged_leaves_nothing(client, line, place, noise, tmp_path):
    scan = client.scans.put(noise, place)

    def damage(answer: httpx.Response) -> httpx.Response:
        content = bytearray(answer.read())
        content[1000] ^= 1
        return httpx.Response(200, headers=answer.headers, content=bytes(content))

    line.faults = [damage]
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(Conflict, match=scan.sha256):
        client.scans.save(scan.id, folder / "scan.nii")
    assert list(folder.iterdir()) == []


def test_an_upload_goes_on_where_it_broke(client, line, place, noise):
    line.faults = [keep, keep, lose, keep, lose]  # begin, offset, piece, offset, piece
    upload = client.uploads.send(noise, place, piece_bytes=1_000_000)
    [scan] = upload.scans
    assert scan.sha256 == hashlib.sha256(noise.read_bytes()).hexdigest()
    offsets = [int(each.headers["Upload-Offset"]) for each in line.seen if each.method == "PATCH"]
    assert offsets == [0, 1_000_000, 2_000_000, 3_000_000]


def test_an_upload_that_was_given_up_is_taken_up_by_another_client(client, line, url, place, noise):
    line.faults = [keep, keep, keep, lose, lose, lose, lose, lose, lose, lose]
    with pytest.raises(Unavailable):
        client.uploads.send(noise, place, piece_bytes=1_000_000)
    heard: list[int] = []
    with Client(url) as other:
        [begun] = other.uploads.list("figures")
        assert 0 < begun.offset < begun.size
        upload = other.uploads.send(noise, place, piece_bytes=1_000_000, on_progress=lambda done, _: heard.append(done))
        assert upload.id == begun.id
        assert heard[0] == begun.offset + 1_000_000
        assert other.uploads.send(noise, place).scans == upload.scans  # asked once more, it is there
    assert upload.scans[0].sha256 == hashlib.sha256(noise.read_bytes()).hexdigest()


def test_a_file_that_can_not_be_used_says_why_and_may_be_mended(client, place, tmp_path, volume):
    path = tmp_path / "later.nii.gz"
    path.write_bytes(b"no image")
    with pytest.raises(BadInput) as told:
        client.uploads.send(path, place)
    assert told.value.remedy
    path.write_bytes(volume.read_bytes())
    assert client.uploads.send(path, place).status == "done"


def test_a_batch_takes_what_it_can(client, place, tmp_path, volume):
    bad = tmp_path / "bad.nii"
    bad.write_bytes(b"no image")
    answer = client.uploads.send_batch([bad, volume], place)
    assert [scan.name for scan in answer.scans] == ["t1.nii.gz"]
    assert [part.name for part in answer.problems] == ["bad.nii"]


def test_a_job_is_followed_across_a_line_that_breaks(client, line, order, carry_out):
    job = client.jobs.submit(order)
    states = []

    def work() -> None:
        while not states:
            time.sleep(0.01)
        carry_out(job.id)

    worker = threading.Thread(target=work)
    worker.start()
    line.faults = [cut(300)]
    states.extend(state.status for state in client.jobs.follow(job.id, timeout_s=60))
    worker.join()
    assert states[0] == "queued"
    assert states[-1] == "done"
    assert client.jobs.wait(job.id).done == job.total


def test_a_job_that_does_not_end_in_time_is_told(client, services, order, monkeypatch):
    monkeypatch.setattr("voxelight.app.api.jobs._SILENCE_S", 0.1)
    job = client.jobs.submit(order)
    with pytest.raises(TimeoutError, match=str(job.id)):
        client.jobs.wait(job.id, timeout_s=0.2)


def test_nobody_at_the_address_is_told_with_the_remedy(tmp_path):
    with Client("http://127.0.0.1:9", tries=1) as client:
        with pytest.raises(Unavailable, match="voxelight serve"):
            client.check_health()
        with pytest.raises(Unavailable):
            client.artifacts.save(uuid.uuid4(), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_is_none_of_ours_is_told():
    def proxy(_: httpx.Request) -> httpx.Response:
        return httpx.Response(502, text="<html>Bad gateway</html>")

    with (
        httpx.Client(base_url="http://host", transport=httpx.MockTransport(proxy)) as http,
        pytest.raises(Unavailable, match="502 Bad Gateway"),
    ):
        Client(http=http).check_health()
