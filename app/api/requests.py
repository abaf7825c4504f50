"""Around every request: its id, how long it took, its span, and a line in the log where logs are structured."""

import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxelight.app.logs import REQUEST_HEADER, about, name_request
from voxelight.app.metrics import HTTP_SECONDS
from voxelight.app.traces import span

_log = logging.getLogger(__name__)


class Requests:
    """Middleware around the routes.

    Parameters
    ----------
    app : what answers
    logs : whether each request is a line in the log
    """

    def __init__(self, app: ASGIApp, logs: bool = False) -> None:
        self._app, self._logs = app, logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request, status, began = name_request(headers.get(REQUEST_HEADER)), 500, time.perf_counter()

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_HEADER] = request
            await send(message)

        try:
            with (
                about(request=request),
                span(f"{scope['method']} request", headers.get("traceparent", ""), request=request),
            ):
                await self._app(scope, receive, send_named)
        finally:
            self._note(scope, request, status, time.perf_counter() - began)

    def _note(self, scope: Scope, request: str, status: int, seconds: float) -> None:
        """Count by the pattern of the route: addresses hold ids, and there are as many of them as rows."""
        route = getattr(scope.get("route"), "path", "none")
        HTTP_SECONDS.labels(scope["method"], route, str(status)).observe(seconds)
        if self._logs:
            facts = {"request": request, "method": scope["method"], "route": route, "status": status}
            _log.info("answered", extra={"facts": facts | {"seconds": round(seconds, 4)}})
