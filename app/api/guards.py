"""What stands before page and API: who may be meant, which page may ask, how often, and what a browser is told.

Pure ASGI, so that sockets of the page and answers that stream pass as they are.
"""

import hashlib
import time
from urllib.parse import urlsplit

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxelight.app.api.hosts import LOCAL_HOSTS, KnownHosts
from voxelight.app.api.problems import answer_problem
from voxelight.app.auth import COOKIE
from voxelight.models.errors import BadInput, Refused, Unavailable

FAILURES_PER_MINUTE = 30  # of one address, to show a credential that is none
_PIECES = 10  # times as many pieces of uploads as other requests: a fast line sends dozens in a second
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_OWN = frozenset({"same-origin", "none"})
_POLICY_VIOLATION = 1008
_LIMITED = ("/api/", "/auth/", "/oauth2callback")
_UNLIMITED = ("/api/v1/health", "/api/v1/metrics", "/api/v1/static/", "/api/v1/pages/")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The page of Streamlit needs inline styles and code; our own pages say more themselves.
    "Content-Security-Policy": "base-uri 'self'; frame-ancestors 'self'; object-src 'none'",
}
_HSTS = "max-age=31536000"


def guard(app: ASGIApp, host: str, local: bool, public_url: str = "", requests_per_minute: int = 0) -> ASGIApp:
    """Put every guard before page and API.

    Parameters
    ----------
    app : page and API
    host : address that is listened on
    local : whether only this machine reaches it
    public_url : as people type it; empty: whatever they typed
    requests_per_minute : of one key, browser or address; 0: as many as come

    Raises
    ------
    BadInput
        The public address is none.
    """
    public = read_origin(public_url)
    if requests_per_minute:
        app = Rates(app, requests_per_minute)
    app = OwnOrigin(app, public)
    if local or public:
        named = {str(urlsplit(public).hostname)} if public else set()
        app = KnownHosts(app, LOCAL_HOSTS | {host} | named)
    return BrowserHeaders(app, public.startswith("https:"))


def read_origin(url: str) -> str:
    """Return scheme, name and port of an address; empty for none.

    Raises
    ------
    BadInput
        It is no address of a page.
    """
    if not url:
        return ""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise BadInput(
            "a public address that is none", "https:// and a name", "Correct VOXELIGHT_PUBLIC_URL, without a password."
        )
    return f"{parts.scheme}://{parts.netloc}".lower()


class OwnOrigin:
    """Middleware that refuses what a foreign page lets a browser ask: changes, and sockets of the page.

    A browser says which page asks (Fetch Metadata, and RFC 6454 where it is older), and no page can change that; other
    programs say nothing. So this holds without a log-in too, and needs no token in a form.

    Parameters
    ----------
    app : what answers
    public : scheme, name and port under which people know this server; empty: what `Host` says
    """

    def __init__(self, app: ASGIApp, public: str = "") -> None:
        self._app = app
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or open one socket."""
        if scope["type"] == "http" and scope["method"] not in _SAFE and not self._is_own(Headers(scope=scope)):
            error = Refused(
                "a change that another page asked this browser for",
                "one from the page of this server",
                "Open the page itself; a program leaves out Origin and cookies, and shows a key.",
            )
            await answer_problem(error)(scope, receive, send)
        elif scope["type"] == "websocket" and not self._is_own(Headers(scope=scope), socket=True):
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            await self._app(scope, receive, send)

    def _is_own(self, headers: Headers, socket: bool = False) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None:
            return origin.lower() == self._public or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        if site is not None:
            return site in _OWN
        return socket or "cookie" not in headers


class Rates:
    """Middleware that answers 429 to who asks too often, and to addresses that try credentials out.

    Parameters
    ----------
    app : what answers
    per_minute : requests of one key or browser; of one address where neither is shown
    """

    def __init__(self, app: ASGIApp, per_minute: int) -> None:
        self._app = app
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerMinute(per_minute)
        self._pieces = RateLimitItemPerMinute(per_minute * _PIECES)
        self._failures = RateLimitItemPerMinute(FAILURES_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not _is_limited(scope["path"]):
            await self._app(scope, receive, send)
            return
        address = str((scope.get("client") or ("",))[0])
        limit = self._pieces if scope["method"] == "PATCH" else self._requests
        who = _find_credential(Headers(scope=scope)) or address
        if not await self._limiter.test(self._failures, "failed", address):
            await self._refuse(self._failures, ("failed", address), "keys that are none")(scope, receive, send)
        elif not await self._limiter.hit(limit, who):
            await self._refuse(limit, (who,), "requests")(scope, receive, send)
        else:
            await self._app(scope, receive, self._counting(address, send))

    def _counting(self, address: str, send: Send) -> Send:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                await self._limiter.hit(self._failures, "failed", address)
            await send(message)

        return count

    def _refuse(self, limit: RateLimitItemPerMinute, who: tuple[str, ...], what: str) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            stats = await self._limiter.get_window_stats(limit, *who)
            wait = max(1, round(stats.reset_time - time.time()))
            error = Unavailable(
                f"more than {limit.amount} {what} in a minute", "fewer", f"Wait {wait} s, then go on more slowly."
            )
            await answer_problem(error, 429, {"Retry-After": str(wait)})(scope, receive, send)

        return answer


class BrowserHeaders:
    """Middleware that tells browsers what nobody may do with an answer; what an answer says itself stays.

    Parameters
    ----------
    app : what answers
    secure : whether people reach it by TLS, a proxy's for one
    """

    def __init__(self, app: ASGIApp, secure: bool = False) -> None:
        self._app = app
        self._secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self._secure or scope.get("scheme") == "https":
                    headers.setdefault("Strict-Transport-Security", _HSTS)
            await send(message)

        await self._app(scope, receive, send_marked if scope["type"] == "http" else send)


def _is_limited(path: str) -> bool:
    return path.startswith(_LIMITED) and not path.startswith(_UNLIMITED)


def _find_credential(headers: Headers) -> str:
    """Return a hash of what a request shows of who asks; empty where it shows nothing."""
    shown = headers.get("authorization") or cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
    return hashlib.sha256(shown.encode()).hexdigest() if shown else ""
