"""A hub of our own for the tests of published weights."""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "c" * 40


@dataclass
class Hub:
    """What the small server holds, how it behaves, and what was asked of it.

    ``cuts`` ends each of the next transfers after that many bytes, and ``stall`` lets it hang there; ``status`` refuses
    everything; ``elsewhere`` sends transfers to another host.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    status: int = 200
    reason: str = ""
    elsewhere: str = ""
    stall: bool = False
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    url: str = ""

    @property
    def ranges(self) -> list[str]:
        """Ranges that were asked for, empty for a whole file."""
        return [
            headers.get("range", "") for method, path, headers in self.asked if method == "GET" and "/resolve/" in path
        ]


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does: resolve, ETag, Range."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._find()

    def do_GET(self) -> None:
        content = self._find()
        if not content or not self.hub.cuts:
            self.wfile.write(content)
            return
        self.wfile.write(content[: self.hub.cuts.pop(0)])
        self.wfile.flush()
        if self.hub.stall:
            self.hub.stalled.set()
            self.hub.released.wait(20)
        self.close_connection = True

    def _find(self) -> bytes:
        """Answer with headers; the body is returned, empty where there is none."""
        self.hub.asked.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
        name = re.sub(r"^/(datasets/)?[^/]+/[^/]+/resolve/[^/]+/", "", self.path)
        if self.hub.status != 200:
            return self._say(self.hub.status, {"X-Error-Code": self.hub.reason})
        if name not in self.hub.files:
            return self._say(404, {"X-Error-Code": "EntryNotFound"})
        if self.hub.elsewhere and self.command == "GET" and self.headers["Host"] in self.hub.url:
            return self._say(302, {"Location": f"{self.hub.elsewhere}{self.path}"})
        content = self.hub.files[name]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        first = int(asked[1]) if asked else 0
        told = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        if asked:
            told["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return self._say(206 if asked else 200, told, content[first:])

    def _say(self, status: int, told: dict[str, str], content: bytes = b"") -> bytes:
        self.send_response(status)
        for header, value in {**told, "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))}.items():
            self.send_header(header, value)
        self.end_headers()
        return content

    def log_message(self, *_words: object) -> None:
        """Say nothing beside the test."""


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    """A server that speaks as much of the hub's language as a download needs."""
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HandlerOfOneTest", (Handler,), {"hub": state}))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", state.url)
    monkeypatch.setenv("HF_TOKEN", "")
    yield state
    state.released.set()
    server.shutdown()
    server.server_close()
