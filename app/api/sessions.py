"""Sign in and out of a browser: a key typed once, for a cookie that scripts can't read and other sites can't send."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from voxelight.app.api.dependencies import find_installation
from voxelight.app.auth import COOKIE, enter, find_principal, leave
from voxelight.app.schemas_access import MeAnswer, SignIn
from voxelight.app.services import Services
from voxelight.models.errors import Conflict
from voxelight.storage.accounts import PAGE_SESSION

router = APIRouter(prefix="/session", tags=["access"])
Installation = Annotated[Services, Depends(find_installation)]


@router.post("", status_code=201)
def sign_in(services: Installation, asked: SignIn, request: Request, response: Response) -> MeAnswer:
    """Sign a browser in by a key: the answer sets a cookie, which ends after 12 hours or with the key."""
    if services.settings.auth == "none":
        raise Conflict("an installation that asks nobody who they are", "one with keys", "Go on without signing in.")
    text = enter(services, asked.key.get_secret_value().strip())
    set_cookie(request, response, text)
    return services.act_as(find_principal(services, text)).access.me()


@router.delete("", status_code=204, response_class=Response)
def sign_out(services: Installation, request: Request) -> Response:
    """Sign a browser out: its cookie opens nothing any more, wherever it is kept."""
    leave(services, request.cookies.get(COOKIE, ""))
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def set_cookie(request: Request, response: Response, text: str) -> None:
    """Give a browser its key."""
    response.set_cookie(
        COOKIE,
        text,
        max_age=int(PAGE_SESSION.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
