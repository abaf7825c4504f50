"""`GET /metrics`, beside the API, for Prometheus."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from voxelight.app.api.problems import answer_problem
from voxelight.app.auth import act_for
from voxelight.app.metrics import Metrics
from voxelight.app.roles import refuse_without
from voxelight.app.services import Services
from voxelight.models.errors import VoxelightError
from voxelight.storage.access import INSTALLATION

PATH = "/metrics"


class MetricsDoor:
    """Shows what is counted: to everybody where there are no accounts, else to who administers the installation.

    Parameters
    ----------
    services : the installation
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._metrics = Metrics(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        try:
            content = await run_in_threadpool(self._read, request)
        except VoxelightError as error:
            await answer_problem(error)(scope, receive, send)
            return
        await Response(content, media_type=CONTENT_TYPE_LATEST)(scope, receive, send)

    def _read(self, request: Request) -> bytes:
        if self._services.settings.auth != "none":
            acting = act_for(self._services, request.headers, request.cookies)
            if acting.principal is not None:
                refuse_without(acting.principal, INSTALLATION)
        return self._metrics.render()
