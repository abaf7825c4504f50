"""What is around every exchange: headers that each answer carries, and a limit to what is read into memory."""

import re

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxelight.app.api.problems import answer_problem
from voxelight.app.schemas import NOTICE
from voxelight.models.errors import BadInput

DOCUMENT_BYTES = 1 << 20
# What goes to the disk as it comes, under the limit of the settings: method -> paths.
_STREAMED = {
    "PUT": re.compile(""),
    "POST": re.compile(r"/(uploads|corrections|interpolation|near/picture)$"),
    "PATCH": re.compile(r"/uploads/[^/]+$"),
}
_HEADERS = {"X-Notice": NOTICE, "X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}


class Envelope:
    """Middleware around the routes.

    Parameters
    ----------
    app : what answers
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = 0

        async def receive_little() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > DOCUMENT_BYTES:
                raise HTTPException(413, f"more than {DOCUMENT_BYTES} bytes")
            return message

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            refused = BadInput("an address with a NUL character", "text without it", "Take the %00 out.")
            await answer_problem(refused)(scope, receive, send_marked)
            return
        paths = _STREAMED.get(scope["method"])
        streamed = paths is not None and paths.search(scope["path"])
        await self._app(scope, receive if streamed else receive_little, send_marked)
