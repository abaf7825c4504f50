"""A proxy before an object store on this machine, which can be told to fail as stores and networks do."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FAILURES = ("answers 500", "is slow", "sends half a body", "refuses connections")
_LATE_S = 3.0
_REFUSAL = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Hands bytes on between clients and a store, a connection a thread.

    Parameters
    ----------
    port : of the store, on this machine
    """

    def __init__(self, port: int) -> None:
        self._port, self._how, self.hurt = port, "", 0
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    proxy._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @contextmanager
    def broken(self, how: str) -> Iterator[None]:
        """Fail in one of `FAILURES` while the block runs."""
        self._how = how
        try:
            yield
        finally:
            self._how = ""

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as store:
            pump = threading.Thread(target=self._return, args=(store, client), daemon=True)
            pump.start()
            while chunk := client.recv(1 << 16):
                how = self._how
                if how:
                    self.hurt += 1
                if how == "answers 500":
                    client.sendall(_REFUSAL)
                    break
                if how == "refuses connections":
                    break
                if how == "is slow":
                    time.sleep(_LATE_S)
                store.sendall(chunk)
            with suppress(OSError):
                store.shutdown(socket.SHUT_RDWR)
            client.shutdown(socket.SHUT_RDWR)

    def _return(self, store: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while chunk := store.recv(1 << 16):
                if self._how == "sends half a body" and len(chunk) > 1:
                    self.hurt += 1
                    client.sendall(chunk[: len(chunk) // 2])
                    break
                client.sendall(chunk)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
