"""Sign in by an identity provider: OpenID Connect Core 1.0, by its discovery document and its published keys.

A token counts if the provider signed it by an asymmetric algorithm, for this client, for this time. Who it names is an
account by (`iss`, `sub`), never by e-mail or name: those a person may change, or another may take.
"""

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from voxelight.app.settings import Settings
from voxelight.models.errors import BadInput, Refused, Unauthenticated, Unavailable

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SCOPES = "openid email profile"
_LEEWAY_S = 60
_FRESH_S = 3600.0
_AGAIN_S = 10.0  # between two looks for a key that is not known, so that bad tokens don't become requests
_TIMEOUT_S = 10.0
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Identity:
    """Whom a token names: the provider, its name for the person, names to show, and groups."""

    issuer: str
    subject: str
    email: str
    name: str
    groups: tuple[str, ...]


class Provider:
    """An identity provider.

    Parameters
    ----------
    issuer : its address, as its tokens say it
    audiences : for whom tokens may be
    groups_claim : where tokens name groups
    """

    def __init__(self, issuer: str, audiences: tuple[str, ...], groups_claim: str = "groups") -> None:
        _refuse_insecure(issuer)
        self.issuer = issuer
        self._audiences = audiences
        self._groups_claim = groups_claim
        self._lock = threading.Lock()
        self._described: Mapping[str, Any] = {}
        self._described_at = self._keys_at = float("-inf")
        self._keys: Any = None

    def describe(self) -> Mapping[str, Any]:
        """Return the discovery document.

        Raises
        ------
        Unavailable
            The provider does not answer, or speaks for another issuer.
        """
        with self._lock:
            if time.monotonic() - self._described_at > _FRESH_S:
                found = _read_json(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
                if found.get("issuer") != self.issuer:
                    raise Unavailable(
                        f"a provider that calls itself {str(found.get('issuer'))[:200]!r}",
                        f"{self.issuer!r}",
                        "Set VOXELIGHT_OIDC_ISSUER to what the provider calls itself, a slash at the end included.",
                    )
                for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                    _refuse_insecure(str(found.get(name, "")))
                self._described, self._described_at = found, time.monotonic()
            return self._described

    def verify(self, token: str, nonce: str | None = None) -> Identity:
        """Check a token and return whom it names.

        Parameters
        ----------
        token : signed JWT
        nonce : that was sent with the request for it; None: it came with a request of its own

        Raises
        ------
        Unauthenticated
            It is not to be trusted; which check failed is said, and nothing of the token.
        Unavailable
            The provider does not answer.
        """
        from joserfc import jwt
        from joserfc.errors import JoseError

        try:
            claims = self._decode(token).claims
            wanted: dict[str, Any] = {
                "iss": {"essential": True, "value": self.issuer},
                "aud": {"essential": True, "values": list(self._audiences)},
                "sub": {"essential": True},
                "exp": {"essential": True},
            }
            if nonce is not None:
                wanted["nonce"] = {"essential": True, "value": nonce}
            jwt.JWTClaimsRegistry(leeway=_LEEWAY_S, **wanted).validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Unauthenticated(
                f"a token of the identity provider that does not hold ({type(error).__name__})",
                f"one that {self.issuer} signed for this client, in force now",
                "Sign in again, or ask the provider for a new token.",
            ) from None
        return self._identify(claims)

    def _decode(self, token: str) -> Any:
        """Check the signature; by keys read anew where the provider may have changed them."""
        from joserfc import jwt
        from joserfc.errors import BadSignatureError, InvalidKeyIdError, MissingKeyError

        try:
            return jwt.decode(token, self._find_keys(), algorithms=ALGORITHMS)
        except (InvalidKeyIdError, MissingKeyError, BadSignatureError, ValueError):
            if not self._forget_keys():
                raise
        return jwt.decode(token, self._find_keys(), algorithms=ALGORITHMS)

    def _find_keys(self) -> Any:
        from joserfc.jwk import KeySet

        uri = self.describe()["jwks_uri"]
        with self._lock:
            if self._keys is None or time.monotonic() - self._keys_at > _FRESH_S:
                # A key that is shared with others signs nothing here, whatever its algorithm is called.
                keys = [key for key in _read_json(uri).get("keys", []) if key.get("kty") != "oct"]
                self._keys, self._keys_at = KeySet.import_key_set({"keys": keys}), time.monotonic()
            return self._keys

    def _forget_keys(self) -> bool:
        with self._lock:
            if time.monotonic() - self._keys_at < _AGAIN_S:
                return False
            self._keys = None
            return True

    def _identify(self, claims: Mapping[str, Any]) -> Identity:
        groups = claims.get(self._groups_claim, [])
        named = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        shown = claims.get("preferred_username") or claims.get("name") or ""
        return Identity(
            self.issuer,
            str(claims["sub"]),
            str(claims.get("email") or "") if claims.get("email_verified", True) else "",
            str(shown),
            tuple(str(group) for group in named),
        )


def find_provider(settings: Settings) -> Provider:
    """Return the provider of an installation; its documents are kept for an hour.

    Raises
    ------
    BadInput
        The settings name none.
    """
    if not settings.oidc_issuer or not settings.oidc_client_id:
        raise BadInput(
            "no identity provider", "VOXELIGHT_OIDC_ISSUER and VOXELIGHT_OIDC_CLIENT_ID", "Set both (docs/security.md)."
        )
    audiences = tuple(dict.fromkeys((settings.oidc_client_id, *settings.oidc_audiences)))
    return _open(settings.oidc_issuer, audiences, settings.oidc_groups_claim)


def exchange(settings: Settings, code: str, verifier: str, nonce: str, back: str) -> Identity:
    """Exchange a code of the provider for whom it names (OpenID Connect Core 1.0, section 3.1.3; RFC 7636).

    Raises
    ------
    Unauthenticated
        The code or the token is not to be trusted.
    Unavailable
        The provider does not answer.
    """
    from authlib.integrations.base_client.errors import OAuthError
    from authlib.integrations.httpx_client import OAuth2Client

    provider = find_provider(settings)
    secret = settings.oidc_client_secret.get_secret_value()
    try:
        with OAuth2Client(settings.oidc_client_id, secret or None, redirect_uri=back, timeout=_TIMEOUT_S) as client:
            if not secret:
                client.token_endpoint_auth_method = "none"
            answer = client.fetch_token(provider.describe()["token_endpoint"], code=code, code_verifier=verifier)
    except OAuthError as error:
        raise Unauthenticated(
            f"a code that the provider does not take ({str(error.error)[:40]})", "a fresh one", "Sign in again."
        ) from None
    except (httpx.HTTPError, ValueError) as error:
        raise _say_silent(provider.issuer, error) from None
    if "id_token" not in answer:
        raise Unauthenticated("an answer without id_token", "one for the scope openid", "Check the client there.")
    return provider.verify(str(answer["id_token"]), nonce)


def name_account(identity: Identity) -> str:
    """Return what a new account is called: by letters, digits and - _ . alone."""
    shown = _NOT_PLAIN.sub("-", identity.name or identity.email or identity.subject).lstrip("_.-")
    return shown[:120] or "person"


def read_roles(mapping: Mapping[str, str], groups: tuple[str, ...]) -> dict[str, str]:
    """Return project -> the highest role that groups give, and every project that the mapping speaks of.

    Parameters
    ----------
    mapping : group -> ``project:role``
    groups : of a person

    Raises
    ------
    BadInput
        The mapping names no role.
    """
    from voxelight.storage.schema import ROLES

    found = {target.rpartition(":")[0]: "" for target in mapping.values()}
    for group, target in mapping.items():
        project, _, role = target.rpartition(":")
        if role not in ROLES or not project:
            raise BadInput(f"{target!r}", f"project:role, of {', '.join(ROLES)}", "Correct VOXELIGHT_OIDC_ROLES.")
        if group in groups and (not found[project] or ROLES.index(role) > ROLES.index(found[project])):
            found[project] = role
    return found


@lru_cache(maxsize=8)
def _open(issuer: str, audiences: tuple[str, ...], groups_claim: str) -> Provider:
    return Provider(issuer, audiences, groups_claim)


def _refuse_insecure(url: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise Refused(f"an identity provider at {url[:200]!r}", "an https address", "Correct VOXELIGHT_OIDC_ISSUER.")


def _read_json(url: str) -> dict[str, Any]:
    try:
        answer = httpx.get(url, timeout=_TIMEOUT_S, follow_redirects=False).raise_for_status()
        found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise _say_silent(url, error) from None
    if not isinstance(found, dict):
        raise Unavailable(f"no JSON object at {url}", "one", "Check the address of the provider.")
    return found


def _say_silent(url: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"no answer from the identity provider at {url} ({type(error).__name__})", "one", "Try again; a key works too."
    )
