"""Who may be meant: a server that listens to its own machine alone answers to that machine's names only.

Otherwise a foreign page could let its own name point here and read what is stored through the visitor's browser.
"""

import re
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from voxelight.app.api.problems import answer_problem
from voxelight.models.errors import BadInput

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class KnownHosts:
    """Middleware that refuses requests meant for another host; sockets of the page check their origin themselves.

    Parameters
    ----------
    app : what answers
    hosts : names and addresses, without a port
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = LOCAL_HOSTS) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and (asked := _find_host(scope)) not in self._hosts:
            error = BadInput(
                f"a request to the host {asked[:80]!r}",
                " or ".join(sorted(self._hosts)),
                "Open the page under one of these; behind a proxy, let it send one as Host, or listen on an address.",
            )
            await answer_problem(error, 421)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _find_host(scope: Scope) -> str:
    host = Headers(scope=scope).get("host", "").lower()
    return re.sub(r":\d*$", "", host).strip("[]")
