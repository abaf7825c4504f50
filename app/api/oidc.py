"""Sign a browser in by an identity provider: there and back, with PKCE, into the cookie that a key gives too."""

import base64
import hashlib
import secrets
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from voxelight.app.api.dependencies import PREFIX
from voxelight.app.api.sessions import Installation, set_cookie
from voxelight.app.auth import SIGN_IN, enter_provided
from voxelight.app.oidc import SCOPES, exchange, find_provider
from voxelight.app.schemas import Wire
from voxelight.app.services import Services
from voxelight.app.signing import read_signed, sign
from voxelight.models.errors import Conflict, Refused, Unauthenticated

router = APIRouter(prefix="/session", tags=["access"])
COOKIE = "voxelight_provider"
_PURPOSE = "sign-in"
_SECONDS = 600
_PATH = f"{PREFIX}/session"
_BACK = f"{_PATH}/provider/callback"


class SignInAnswer(Wire):
    """How a browser can sign in."""

    asks: bool
    provider: str | None


@router.get("")
def show_ways(services: Installation) -> SignInAnswer:
    """Say whether anybody is asked who they are, and where to sign in by the identity provider, if there is one."""
    settings = services.settings
    return SignInAnswer(asks=settings.auth != "none", provider=f"{_PATH}/provider" if settings.auth == "oidc" else None)


@router.get("/provider", status_code=303, response_class=RedirectResponse)
def go_to_provider(services: Installation, request: Request) -> Response:
    """Send a browser to the identity provider."""
    _refuse_without(services)
    settings = services.settings
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": settings.oidc_client_id,
        "redirect_uri": _find_back(services, request),
        "scope": SCOPES,
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    where = find_provider(settings).describe()["authorization_endpoint"]
    answer = RedirectResponse(f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}", 303)
    kept = sign(settings, _PURPOSE, {"state": state, "nonce": nonce, "verifier": verifier}, _SECONDS)
    # Lax: the way back begins at the provider.
    answer.set_cookie(
        COOKIE, kept, _SECONDS, path=_PATH, secure=request.url.scheme == "https", httponly=True, samesite="lax"
    )
    return answer


@router.get("/provider/callback", status_code=303, response_class=RedirectResponse)
def come_back(
    services: Installation,
    request: Request,
    code: Annotated[str, Query(max_length=4000)] = "",
    state: Annotated[str, Query(max_length=200)] = "",
    error: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Take a browser back from the identity provider: sign it in, and show it the page."""
    _refuse_without(services)
    if error or not code:
        raise Unauthenticated("a sign-in that the provider refused", "one that it allows", f"Try again at {SIGN_IN}.")
    kept = read_signed(services.settings, _PURPOSE, request.cookies.get(COOKIE, ""))
    if not secrets.compare_digest(kept["state"].encode(), state.encode()):
        raise Refused("an answer to another sign-in", "the one that this browser began", f"Begin again at {SIGN_IN}.")
    identity = exchange(services.settings, code, kept["verifier"], kept["nonce"], _find_back(services, request))
    # The page of signing in, and not the page itself: what a browser is sent to from elsewhere gets no strict cookie.
    answer = RedirectResponse(SIGN_IN, 303)
    set_cookie(request, answer, enter_provided(services, identity))
    answer.delete_cookie(COOKIE, path=_PATH)
    return answer


def _find_back(services: Services, request: Request) -> str:
    """Return where the provider sends a browser back to; it must be registered there."""
    public = services.settings.public_url.rstrip("/")
    return (public or f"{request.url.scheme}://{request.url.netloc}") + _BACK


def _refuse_without(services: Services) -> None:
    if services.settings.auth != "oidc":
        raise Conflict("an installation without an identity provider", "VOXELIGHT_AUTH=oidc", "Sign in by a key.")
