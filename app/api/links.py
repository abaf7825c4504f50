"""Links to files over HTTP, and what takes the signature off an address before a route reads it."""

from fastapi import APIRouter
from starlette.types import ASGIApp, Receive, Scope, Send

from voxelight.app.api.dependencies import LINK, Door
from voxelight.app.links import make_link, split_link
from voxelight.app.roles import refuse_without
from voxelight.app.schemas_links import LinkAnswer, LinkRequest

router = APIRouter(prefix="/links", tags=["links"])


@router.post("", status_code=201)
def add_link(services: Door, asked: LinkRequest) -> LinkAnswer:
    """Make a link that opens one file without a key: an artifact, a scan, its image or thumbnail, or an export.

    It reads what its maker may see while it holds, 5 minutes unless another time is asked for, and nothing else.
    """
    if services.principal is not None:
        refuse_without(services.principal, "viewer")
    return make_link(services.settings, services.principal, asked)


class Links:
    """Middleware that keeps the signature of a link beside the request, so that routes see the address that was signed.

    Parameters
    ----------
    app : what answers
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and b"link=" in scope["query_string"]:
            query, signed = split_link(scope["query_string"].decode("latin-1"))
            if signed:
                scope = {**scope, "query_string": query.encode("latin-1"), LINK: signed}
        await self._app(scope, receive, send)
