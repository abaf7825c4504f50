"""Who asks, from what a door was shown: a key of the API in a header, or the cookie of a browser that signed in."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from voxelight.app.services import Services
from voxelight.models.errors import Unauthenticated
from voxelight.storage.access import Principal
from voxelight.storage.accounts import START, authenticate, find_key, read_principal, revoke_key, sign_in
from voxelight.storage.provided import find_provided
from voxelight.storage.schema import Account

if TYPE_CHECKING:
    from voxelight.app.oidc import Identity

COOKIE = "voxelight_session"
SIGN_IN = "/api/v1/pages/sign-in"
_BEARER = "bearer "


def find_text(headers: Mapping[str, str], cookies: Mapping[str, str]) -> str:
    """Return the key that was shown, in ``Authorization: Bearer`` or by the cookie.

    Raises
    ------
    Unauthenticated
        None was.
    """
    said = headers.get("authorization", "")
    if said[: len(_BEARER)].lower() == _BEARER:
        return said[len(_BEARER) :].strip()
    if cookies.get(COOKIE):
        return cookies[COOKIE]
    raise Unauthenticated(
        "no key",
        "Authorization: Bearer and a key, or a browser that signed in",
        f"Sign in at {SIGN_IN}, or send a key.",
    )


def find_principal(services: Services, text: str) -> Principal:
    """Return who a key belongs to.

    Raises
    ------
    Unauthenticated
        It is not in force.
    """
    if services.settings.auth == "oidc" and not text.startswith(f"{START}_"):
        return find_provided_principal(services, text)
    with services.stores.sessions.begin() as session:
        return authenticate(session, text)


def find_provided_principal(services: Services, token: str) -> Principal:
    """Return whom a token of the identity provider names.

    Raises
    ------
    Unauthenticated
        It does not hold, or there is no account for it.
    """
    from voxelight.app.oidc import find_provider

    identity = find_provider(services.settings).verify(token)
    with services.stores.sessions.begin() as session:
        return read_principal(session, _find_account(session, services, identity))


def enter_provided(services: Services, identity: "Identity") -> str:
    """Make the key of one browser for whom the identity provider has named.

    Raises
    ------
    Unauthenticated
        There is no account.
    """
    with services.stores.sessions.begin() as session:
        return sign_in(session, _find_account(session, services, identity))


def _find_account(session: Session, services: Services, identity: "Identity") -> Account:
    from voxelight.app.oidc import name_account, read_roles

    roles = read_roles(services.settings.oidc_roles, identity.groups)
    return find_provided(session, identity.issuer, identity.subject, name_account(identity), roles)


def act_for(services: Services, headers: Mapping[str, str], cookies: Mapping[str, str]) -> Services:
    """Return the services as whoever asks may use them; all of them where nobody is asked who they are.

    Raises
    ------
    Unauthenticated
        Nothing was shown, or it is not in force.
    """
    if services.settings.auth == "none":
        return services
    return services.act_as(find_principal(services, find_text(headers, cookies)))


def enter(services: Services, key: str) -> str:
    """Make the key of one browser from one that was typed there.

    Raises
    ------
    Unauthenticated
        The key is not in force.
    """
    with services.stores.sessions.begin() as session:
        typed = find_key(session, key)
        return sign_in(session, typed.account, typed)


def leave(services: Services, text: str) -> None:
    """End the key of one browser; one that is over already, or was made by hand, is left as it is."""
    with services.stores.sessions.begin() as session:
        try:
            key = find_key(session, text)
        except Unauthenticated:
            return
        if key.is_page:
            revoke_key(session, key)
