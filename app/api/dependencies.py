"""What the routes share: the services behind them, and how lists are paged."""

from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import Field

from voxelight.app.schemas import Wire
from voxelight.app.services import Services
from voxelight.storage.queries import MAX_PAGE

PREFIX = "/api/v1"


async def find_services(request: Request) -> Services:
    """Return the services of the API that a request came to."""
    services: Services = request.app.state.services
    return services


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
