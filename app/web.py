"""The one process that serves page and API: Streamlit and FastAPI side by side on one port, with a worker inside."""

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
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.web import bootstrap
from uvicorn.config import LOGGING_CONFIG

from voxelight.app.api import create_api
from voxelight.app.api.hosts import LOCAL_HOSTS, KnownHosts
from voxelight.app.bootstrap import open_services
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.app.ui.theme import OPTIONS
from voxelight.models.errors import BadInput, Unavailable

PAGE = Path(__file__).parent / "ui" / "main.py"
_API = "/api"
_BACKLOG = 2048
_GRACE_S = 5  # for answers under way when the process is told to stop; event streams never end by themselves
_log = logging.getLogger(__name__)


class Web:
    """Page and API as one ASGI application.

    They stand side by side, and not one within the other: Streamlit's middleware would compress files and answer odd
    paths itself. The page has the life cycle, the API has none.

    Parameters
    ----------
    services : the installation behind both; whoever opened it closes it
    script : the page
    """

    def __init__(self, services: Services, script: Path) -> None:
        self._services = services
        self._api = create_api(services)
        self._page = streamlit.App(script, lifespan=self._living)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through start and stop."""
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{_API}/"):
            await self._api({**scope, "root_path": scope.get("root_path", "") + _API}, receive, send)
        else:
            await self._page(scope, receive, send)

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


def create_app(services: Services, script: Path = PAGE) -> Web:
    """Return page and API as one ASGI application.

    Parameters
    ----------
    services : the installation behind both; whoever opened it closes it
    script : the page
    """
    return Web(services, script)


def current_services() -> Services:
    """Return the services that the page speaks to: the server's, or, without one, those of the settings in force."""
    return _CURRENT.find()


def serve(settings: Settings, host: str = "127.0.0.1", port: int = 8501, worker: bool = True) -> None:
    """Serve page and API until the process is told to stop.

    Parameters
    ----------
    settings : of the installation
    host : address to listen on
    port : 0 for any that is free
    worker : whether jobs run in this process

    Raises
    ------
    BadInput
        This machine has no such address.
    Unavailable
        The port is taken, or may not be used.
    Conflict
        Another living process works for this installation under the same name.
    """
    with _listen(host, port) as listener:
        port = listener.getsockname()[1]
        _set_up_page(host, port)
        services = open_services(settings)
        local = _is_loopback(host)
        app = create_app(services)
        server = uvicorn.Server(_configure(KnownHosts(app, LOCAL_HOSTS | {host}) if local else app))
        _stop_on_signals(server)
        if not local:
            _log.warning(
                "Listening on %s, and there is no authentication yet: whoever reaches port %d reads and changes "
                "everything. Use a trusted network or a proxy that asks who is there.",
                host,
                port,
            )
        with closing(services), _working(services, worker):
            _log.info("Page on http://%s:%d, API below /api/v1. Stop with Ctrl+C.", _in_url(host), port)
            server.run(sockets=[listener])


def _working(services: Services, worker: bool) -> AbstractContextManager[None]:
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


def _configure(app: ASGIApp) -> uvicorn.Config:
    log = deepcopy(LOGGING_CONFIG)
    log["loggers"]["voxelight"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return uvicorn.Config(
        app,
        log_config=log,
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=int(streamlit.get_option("server.maxMessageSize")) << 20,
        ws_ping_interval=30,
        ws_ping_timeout=30,
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
