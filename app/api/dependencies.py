"""What the routes share: the services behind them, and how lists are paged."""

from typing import Annotated

from fastapi import Depends, Request
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


class Paging(Wire):
    """Which part of a list; a parameter of another name is refused."""

    limit: int = Field(100, ge=1, le=MAX_PAGE, description="items in a page")
    cursor: str | None = Field(None, description="next_cursor of the page before")
