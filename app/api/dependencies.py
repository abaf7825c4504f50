"""What the routes share: the services behind them, and how lists are paged."""

from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from voxelight.app.auth import act_for
from voxelight.app.links import open_link
from voxelight.app.schemas import Wire
from voxelight.app.services import Services
from voxelight.storage.queries import MAX_PAGE

PREFIX = "/api/v1"
LINK = "voxelight.link"  # where the signature of a link stands in the scope


async def find_installation(request: Request) -> Services:
    """Return the services of the API that a request came to, whoever asks; for what needs no account."""
    services: Services = request.app.state.services
    return services


async def find_services(request: Request) -> Services:
    """Return the services as whoever asks may use them.

    Raises
    ------
    Unauthenticated
        Accounts are asked for, and none was shown.
    Refused
        The link that was shown is for something else, or its time is over.
    """
    services = await find_installation(request)
    if signed := request.scope.get(LINK):
        place = request.scope["path"], request.scope["query_string"].decode("latin-1")
        acting = await run_in_threadpool(open_link, services, signed, request.method, *place)
        request.state.principal = acting.principal
        return acting
    if services.settings.auth == "none":
        return services
    acting = await run_in_threadpool(act_for, services, request.headers, request.cookies)
    request.state.principal = acting.principal
    return acting


Door = Annotated[Services, Depends(find_services)]


def is_taken(sec_fetch_site: Annotated[str | None, Header(include_in_schema=False)] = None) -> bool:
    """Whether a file is asked for to be taken away, and not by a page of this server, which shows it.

    Browsers say who asks, and no page can change that (W3C Fetch Metadata Request Headers); other programs say nothing.
    """
    return sec_fetch_site != "same-origin"


Taken = Annotated[bool, Depends(is_taken)]


class Paging(Wire):
    """Which part of a list; a parameter of another name is refused."""

    limit: int = Field(100, ge=1, le=MAX_PAGE, description="items in a page")
    cursor: str | None = Field(None, description="next_cursor of the page before")
