"""The one process that serves page and API: Streamlit and FastAPI side by side on one port, with a worker inside."""

import ctypes
import errno
import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, nullcontext
from copy import deepcopy
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import streamlit
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.web import bootstrap
from uvicorn.config import LOGGING_CONFIG

from voxelight.app.api import create_api
from voxelight.app.api.guards import guard
from voxelight.app.api.metrics import PATH as METRICS
from voxelight.app.api.metrics import MetricsDoor
from voxelight.app.auth import SIGN_IN, act_for
from voxelight.app.bootstrap import open_services
from voxelight.app.forks import fork
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.app.transport import Transport
from voxelight.app.ui.theme import OPTIONS
from voxelight.app.watched import begin_watching
from voxelight.models.errors import BadInput, Refused, Unauthenticated, Unavailable

PAGE = Path(__file__).parent / "ui" / "main.py"
_API = "/api"
_OPEN = ("/static/", "/_stcore/health", "/favicon")  # files of Streamlit itself
_MEDIA = "/media/"
_PARTS = ("/_stcore/", _MEDIA, "/component/")
_BACKLOG = 2048
_GRACE_S = 5  # for answers under way when the process is told to stop; event streams never end by themselves
_ARENA_MAX, _ARENAS = -8, 2  # M_ARENA_MAX of malloc.h
_log = logging.getLogger(__name__)


class Web:
    """Page and API as one ASGI application.

    They stand side by side, and not one within the other: Streamlit's middleware would compress files and answer odd
    paths itself. The page has the life cycle, the API has none.

    Parameters
    ----------
    services : the installation behind both; whoever opened it closes it
    script : the page; None: the API alone
    """

    def __init__(self, services: Services, script: Path | None) -> None:
        self._services = services
        self._api = create_api(services)
        self._metrics = MetricsDoor(services)
        self._page: ASGIApp = streamlit.App(script, lifespan=self._living) if script else Starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through start and stop."""
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{_API}/"):
            await self._api({**scope, "root_path": scope.get("root_path", "") + _API}, receive, send)
        elif scope["type"] == "http" and scope["path"] == METRICS:
            await self._metrics(scope, receive, send)
        elif await self._may_pass(scope):
            await self._page(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(_PARTS):
            await Response(status_code=401)(scope, receive, send)
        elif scope["type"] == "http":
            await RedirectResponse(SIGN_IN, 303)(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _may_pass(self, scope: Scope) -> bool:
        """Return whether whoever asks for the page is known."""
        auth = self._services.settings.auth
        if auth == "none" or scope["type"] == "lifespan" or scope["path"].startswith(_OPEN):
            return True
        try:
            asked = HTTPConnection(scope)
            await run_in_threadpool(act_for, self._services, asked.headers, asked.cookies)
        except Unauthenticated:
            return False
        return True

    @asynccontextmanager
    async def _living(self, _: streamlit.App) -> AsyncIterator[None]:
        _CURRENT.show(self._services)
        try:
            yield
        finally:
            _CURRENT.hide(self._services)


class _Current:
    """The services that the page of this process stands before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: Services | None = None
        self._own: Services | None = None

    def show(self, services: Services) -> None:
        self._shown = services

    def hide(self, services: Services) -> None:
        if self._shown is services:
            self._shown = None

    def find(self) -> Services:
        if self._shown is not None:
            return self._shown
        settings = Settings()
        with self._lock:
            if self._own is None or self._own.settings != settings:
                self._own = open_services(settings)
            return self._own


_CURRENT = _Current()


def create_app(services: Services, script: Path | None = PAGE) -> Web:
    """Return page and API as one ASGI application.

    Parameters
    ----------
    services : the installation behind both; whoever opened it closes it
    script : the page; None: the API alone
    """
    return Web(services, script)


def current_services() -> Services:
    """Return the services that the page speaks to, as whoever looks at it may use them.

    They are the server's or, without one, those of the settings in force. With accounts, a script run of the page shows
    the cookie of the browser that it runs for.

    Raises
    ------
    Unauthenticated
        Nobody signed in, or it is over.
    """
    services = _CURRENT.find()
    return services if services.settings.auth == "none" else act_for(services, {}, streamlit.context.cookies)


def all_services() -> Services:
    """Return the same as nobody's: for signing in and out."""
    return _CURRENT.find()


def serve(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8501,
    worker: bool = True,
    page: bool = True,
    processes: int = 1,
) -> None:
    """Serve page and API until the process is told to stop.

    Parameters
    ----------
    settings : of the installation
    host : address to listen on
    port : 0 for any that is free
    worker : whether jobs run in this process
    page : whether there is a page beside the API
    processes : that answer, more than one without page and worker only: those keep what they know in memory

    Raises
    ------
    Refused
        Others than this machine would reach it, and nobody would be asked who they are.
    BadInput
        This machine has no such address, or page or worker would be there several times.
    Unavailable
        The port is taken, or may not be used.
    Conflict
        Another living process works for this installation under the same name.
    """
    refuse_open(settings, host)
    if processes > 1 and (page or worker):
        raise BadInput(
            f"{processes} processes with a page or a worker in each",
            "several processes for the API alone",
            "Add --no-page and --no-worker; the page and workers can be processes of their own.",
        )
    with _listen(host, port) as listener:
        if processes > 1 and not fork(processes):
            return
        if not worker:
            share_arenas()
        begin_watching(settings)
        port = listener.getsockname()[1]
        _set_up_page(host, port)
        services = open_services(settings)
        local = _is_loopback(host)
        app = create_app(services, PAGE if page else None)
        rate = 0 if settings.auth == "none" else settings.requests_per_minute
        server = uvicorn.Server(_configure(guard(app, host, local, settings.public_url, rate), settings.log_format))
        _stop_on_signals(server)
        if settings.auth != "none" and not services.access.has_admin():
            _log.warning(
                "Nobody can sign in as an administrator yet: voxelight access accounts add NAME --admin, then "
                "voxelight access keys add NAME."
            )
        with closing(services), _working(services, worker):
            what = "Page on http://%s:%d, API below /api/v1." if page else "API on http://%s:%d/api/v1, no page."
            _log.info(f"{what} Stop with Ctrl+C.", _in_url(host), port)
            server.run(sockets=[listener])


def refuse_open(settings: Settings, host: str) -> None:
    """Refuse to listen where others than this machine come to, unless everybody is asked who they are.

    Raises
    ------
    Refused
        There is no authentication.
    """
    if settings.auth == "none" and not _is_loopback(host):
        raise Refused(
            f"the address {host}, which others can reach, and no authentication",
            "127.0.0.1, or accounts",
            "Set VOXELIGHT_AUTH=keys and add accounts (docs/access.md), or listen on 127.0.0.1.",
        )


def share_arenas() -> bool:
    """Let all threads of this process take memory from two arenas, where its C library has them; call it early.

    By itself glibc gives nearly each of the 40 threads that answer one of its own, and in each of them stays what the
    largest answer took there. Threads of Python seldom take memory at once; those that compute do, in a worker.

    Returns
    -------
    bool
        Whether it is so.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_ARENA_MAX, _ARENAS) == 1


def _working(services: Services, worker: bool) -> AbstractContextManager[object]:
    if not worker:
        return nullcontext()
    from voxelight.app.worker import working

    return working(services)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # Connections inherit it; without it the body of an answer waits up to 40 ms for the receipt of its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            raise Unavailable(
                f"port {port} of {host}, in use by another process",
                "a free port",
                f"Stop what listens there, or choose another port, {port + 1} for one.",
            ) from None
        if number == errno.EACCES:
            raise Unavailable(f"port {port}, kept for the system", "a port above 1023", "Choose another.") from None
        raise BadInput(
            f"the address {host}, port {port} ({error})", "an address of this machine", "Use 127.0.0.1 or 0.0.0.0."
        ) from None


def _set_up_page(host: str, port: int) -> None:
    options: dict[str, Any] = OPTIONS | {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
    }
    bootstrap.load_config_options(options)


def _configure(app: ASGIApp, log_format: str) -> uvicorn.Config:
    log = deepcopy(LOGGING_CONFIG)
    log["loggers"]["voxelight"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return uvicorn.Config(
        app,
        log_config=None if log_format == "json" else log,
        access_log=False,
        http=Transport,
        ws="websockets-sansio",
        ws_max_size=int(streamlit.get_option("server.maxMessageSize")) << 20,
        ws_ping_interval=30,
        ws_ping_timeout=30,
        # Longer than clients that poll keep silent: a connection that is closed as a request comes is an error to them.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _stop_on_signals(server: uvicorn.Server) -> None:
    # The server raises a signal again once it has shut down; this handler then lets the process end by itself.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
