"""Requests as they come off a connection: what can't be read as HTTP is answered as every other error is."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from voxelight.app.api.problems import MEDIA_TYPE
from voxelight.app.problem import describe_problem
from voxelight.app.schemas import NOTICE
from voxelight.models.errors import BadInput

_UNREADABLE = BadInput(
    "a request that can't be read, or one with an address of more than 64 KiB",
    "a request of HTTP/1.1 with an address of at most 64 KiB",
    "Correct the request; ask for less at once where its address is long.",
)


class Transport(HttpToolsProtocol):
    """A connection of a client; without this, uvicorn would say what it can't read in plain text."""

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, and close the connection: what comes after can't be told apart."""
        body = describe_problem(_UNREADABLE, 400).model_dump_json().encode()
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(len(body)),
            "X-Notice": NOTICE,
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"HTTP/1.1 400 Bad Request\r\n{head}\r\n".encode() + body)
        self.transport.close()
