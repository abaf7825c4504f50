"""What stands before page and API: foreign pages change nothing, nobody asks without end, browsers are told."""

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from voxelight.app.api.guards import FAILURES_PER_MINUTE, HEADERS, guard, read_origin
from voxelight.models.errors import BadInput


async def answer(scope, receive, send):
    """An application that answers everything; without a key it knows nobody."""
    if scope["type"] == "websocket":
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.send_text("open")
        await socket.close()
        return
    known = dict(scope["headers"]).get(b"authorization", b"").startswith(b"Bearer good")
    status = 200 if known or scope["path"] != "/api/v1/jobs" else 401
    await PlainTextResponse("answer", status)(scope, receive, send)


def stand_before(url="http://localhost:8501", **options):
    options = {"host": "127.0.0.1", "local": True} | options
    return TestClient(guard(answer, **options), base_url=url)


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:9999"},
    {"Origin": "http://localhost.evil.example:8501"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Cookie": "session=1"},
]
OWN = [
    {},
    {"Origin": "http://localhost:8501", "Sec-Fetch-Site": "same-origin", "Cookie": "session=1"},
    {"Sec-Fetch-Site": "same-origin", "Cookie": "session=1"},
    {"Authorization": "Bearer good"},
]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_changes_nothing_even_without_a_log_in(method, headers):
    refused = stand_before().request(method, "/api/v1/datasets", headers=headers)
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_the_own_page_and_programs_are_let_through(headers):
    assert stand_before().post("/api/v1/datasets", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_reading_is_left_to_the_rules_of_browsers(headers):
    read = stand_before().get("/api/v1/datasets", headers=headers)
    assert read.status_code == 200
    assert "access-control-allow-origin" not in read.headers
    assert read.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_foreign_page_opens_no_socket_of_the_page():
    client = stand_before()
    for headers in FOREIGN[:4]:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/_stcore/stream", headers=headers):
            pass
    own = {"Host": "localhost:8501", "Origin": "http://localhost:8501"}
    with client.websocket_connect("/_stcore/stream", headers=own) as socket:
        assert socket.receive_text() == "open"


def test_behind_a_proxy_the_public_name_is_the_own_one():
    client = stand_before("http://10.0.0.5:8501", host="10.0.0.5", local=False, public_url="https://Brain.example/page")
    own = {"Origin": "https://brain.example"}
    assert client.post("/api/v1/x", headers=own | {"Host": "brain.example"}).status_code == 200
    assert client.post("/api/v1/x", headers=own).status_code == 200
    assert client.post("/api/v1/x", headers={"Origin": "http://brain.example"}).status_code == 403
    foreign = client.get("/", headers={"Host": "evil.example"})
    assert foreign.status_code == 421
    for wrong in ("brain.example", "ftp://brain.example", "https://user:canary@brain.example"):
        with pytest.raises(BadInput) as raised:
            read_origin(wrong)
        assert "canary" not in str(raised.value)


def test_every_answer_tells_browsers_what_nobody_may_do_and_promises_tls_only_behind_it():
    plain = stand_before().get("/")
    assert {name: plain.headers.get(name) for name in HEADERS} == HEADERS
    assert "strict-transport-security" not in plain.headers
    behind = stand_before(local=False, public_url="https://brain.example").get("/")
    assert behind.headers["strict-transport-security"].startswith("max-age=")
    refused = stand_before().get("/", headers={"Host": "evil.example"})
    assert refused.headers["x-frame-options"] == "SAMEORIGIN"


def test_who_asks_too_often_waits_and_others_do_not():
    client = stand_before(local=False, requests_per_minute=5)
    one, other = {"Authorization": "Bearer good1"}, {"Authorization": "Bearer good2"}
    assert [client.get("/api/v1/jobs", headers=one).status_code for _ in range(7)] == [200] * 5 + [429] * 2
    refused = client.get("/api/v1/jobs", headers=one)
    assert refused.json()["type"] == "urn:voxelight:problem:too-many-requests"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert client.get("/api/v1/jobs", headers=other).status_code == 200
    assert client.patch("/api/v1/uploads/1", headers=one).status_code == 200  # pieces are counted apart
    for path in ("/api/v1/health", "/", "/api/v1/metrics"):
        assert {client.get(path, headers=one).status_code for _ in range(9)} == {200}


def test_an_address_that_tries_keys_out_is_stopped_whatever_it_shows():
    client = stand_before(local=False, requests_per_minute=1000)
    tried = [
        client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {number}"}).status_code
        for number in range(FAILURES_PER_MINUTE + 3)
    ]
    assert tried == [401] * FAILURES_PER_MINUTE + [429] * 3


def test_the_limit_ends(monkeypatch):
    import limits.aio.storage.memory as memory

    now = [1_800_000_000.0]
    monkeypatch.setattr(memory.time, "time", lambda: now[0])
    client = stand_before(local=False, requests_per_minute=2)
    assert [client.post("/api/v1/x").status_code for _ in range(3)] == [200, 200, 429]
    now[0] += 121
    assert client.post("/api/v1/x").status_code == 200


def test_a_served_page_keeps_its_headers_and_its_sockets(server_url):
    page = httpx.get(server_url)
    assert page.headers["x-frame-options"] == "SAMEORIGIN"
    own = httpx.get(f"{server_url}/api/v1/pages/upload").headers["content-security-policy"]
    assert own.startswith("default-src 'self'")
    foreign = httpx.post(
        f"{server_url}/api/v1/datasets", json={"name": "d"}, headers={"Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    for origin, status in (("https://evil.example", 403), (server_url, 101)):
        opened = open_socket(server_url, origin)
        assert f"HTTP/1.1 {status} " in opened


def open_socket(url, origin):
    import socket

    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(
            f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        return connection.recv(200).decode()


@pytest.fixture
def server_url(settings, monkeypatch):
    """Page and API as they are served, in this process."""
    import socket
    import threading
    import time

    import uvicorn

    from voxelight.app import web
    from voxelight.app.bootstrap import open_services

    services = open_services(settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        app = guard(web.create_app(services), "127.0.0.1", local=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()
    services.close()
