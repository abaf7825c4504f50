"""Files over HTTP: whole, in part, or not at all where the client has them."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelight.app.api.ranges import NoSuchRange, parse_range

CONTENT = random.Random(5).randbytes((1 << 20) + 5000)


@pytest.fixture
def url(client, finished) -> str:
    """Where a file of a little over 1 MiB, the size of a chunk lies."""
    run_id = finished(content=CONTENT, name="léger map.bin")
    return "http://localhost" + client.get(f"results/{run_id}").json()["artifacts"][0]["url"]


def test_a_file_comes_whole(client, url):
    answer = client.get(url)
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["etag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''l%C3%A9ger%20map.bin"


def test_a_head_is_a_get_without_content(client, url):
    whole, head = client.get(url), client.head(url)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("etag", "accept-ranges", "content-length", "content-type", "content-disposition", "x-notice"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=0-99", slice(0, 100)),
        ("bytes=1048570-1048590", slice(1048570, 1048591)),
        ("bytes=1048576-", slice(1048576, None)),
        ("bytes=-1", slice(-1, None)),
        ("bytes=-1000", slice(-1000, None)),
        ("bytes=-99999999", slice(0, None)),
        ("bytes=5-99999999", slice(5, None)),
        (f"bytes={len(CONTENT) - 1}-", slice(-1, None)),
    ],
)
def test_a_range_is_a_slice(client, url, asked, part):
    answer = client.get(url, headers={"Range": asked})
    start, stop, _ = part.indices(len(CONTENT))
    assert answer.status_code == 206
    assert answer.content == CONTENT[part]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("asked", [f"bytes={len(CONTENT)}-", "bytes=99999999-", "bytes=-0"])
def test_a_range_outside_is_refused_with_the_size(client, url, asked, is_problem):
    answer = client.get(url, headers={"Range": asked})
    is_problem(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=1-2", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "x"])
def test_what_is_no_single_range_gets_the_whole(client, url, asked):
    answer = client.get(url, headers={"Range": asked})
    assert answer.status_code == 200
    assert len(answer.content) == len(CONTENT)


@given(st.integers(0, 40), st.one_of(st.none(), st.integers(0, 40)), st.integers(1, 30))
def test_any_range_is_the_slice_of_python(first, last, size):
    content = bytes(range(size))
    expected = content[first : None if last is None else last + 1]
    header = f"bytes={first}-{'' if last is None else last}"
    if last is not None and last < first:
        assert parse_range(header, size) is None
    elif expected:
        assert content[slice(*parse_range(header, size))] == expected
    else:
        with pytest.raises(NoSuchRange):
            parse_range(header, size)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
def test_what_the_client_has_is_not_sent_again(client, url, method, form):
    asked = form.format(hashlib.sha256(CONTENT).hexdigest())
    answer = client.request(method, url, headers={"If-None-Match": asked})
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"]
    assert client.request(method, url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_range_of_other_content_gets_the_whole(client, url):
    tag = client.head(url).headers["etag"]
    assert client.get(url, headers={"Range": "bytes=0-9", "If-Range": tag}).content == CONTENT[:10]
    assert client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200


def test_a_file_that_was_lost_is_an_error_and_not_half_an_answer(client, services, url, is_problem):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    (services.settings.home / "blobs" / "sha256" / sha256[:2] / sha256).unlink()
    assert "backup" in is_problem(client.get(url), 404)["remedy"]
