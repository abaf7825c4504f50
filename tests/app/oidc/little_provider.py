"""A small identity provider of our own, on a socket: discovery, sign-in, tokens, keys. No real one is asked."""

import base64
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any
from urllib.parse import urlencode

import uvicorn
from fastapi import FastAPI, Form, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT = "voxelight"
_FORM = """<!doctype html><html lang="en"><title>The provider</title><h1>The provider</h1>
<form method="post" action="/authorize">{hidden}
<label>Name <input name="name"></label>
<button name="answer" value="yes">Sign in here</button>
<button name="answer" value="no">Cancel</button></form></html>"""


class IdentityProvider:
    """Signs whoever `person` says in, at once and without asking; where `people` are known, asks in a form who it is.

    Parameters
    ----------
    url : where it is reached
    people : name that is typed in the form -> what tokens say of that person
    """

    def __init__(self, url: str, people: dict[str, dict[str, Any]] | None = None) -> None:
        self.url = url
        self.people = people or {}
        self.person: dict[str, Any] = {"sub": "248289761001", "email": "ana@lab.example", "preferred_username": "ana"}
        self.change: dict[str, Any] = {}
        self.keys = [self.make_key()]
        self.codes: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.app = self._build()

    def token(self, key: RSAKey | None = None, header: dict[str, Any] | None = None, **change: Any) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, **self.person, **change}
        key = key or self.keys[-1]
        said = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": key.kid, **(header or {})}, said, key)

    @staticmethod
    def make_key() -> RSAKey:
        return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": secrets.token_hex(4)})

    def _build(self) -> FastAPI:
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        def describe() -> dict[str, str]:
            self.asked.append("describe")
            return {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
            }

        @app.get("/jwks")
        def show_keys() -> dict[str, Any]:
            self.asked.append("jwks")
            return KeySet(self.keys).as_dict(private=False)

        @app.get("/authorize")
        def authorize(request: Request) -> Response:
            asked = dict(request.query_params)
            if not self.people:
                return self._send_back(asked, self.person)
            hidden = "".join(f'<input type="hidden" name="{k}" value="{escape(v)}">' for k, v in asked.items())
            return HTMLResponse(_FORM.format(hidden=hidden))

        @app.post("/authorize")
        async def sign_in(request: Request) -> Response:
            asked = {name: str(value) for name, value in (await request.form()).items()}
            if asked["answer"] == "no":
                refusal = urlencode({"error": "access_denied", "state": asked["state"]})
                return RedirectResponse(f"{asked['redirect_uri']}?{refusal}", 303)
            return self._send_back(asked, self.people[asked["name"]])

        @app.post("/token")
        def exchange(code: str = Form(), redirect_uri: str = Form(), code_verifier: str = Form()) -> Response:
            known = self.codes.pop(code, None)
            digest = hashlib.sha256(code_verifier.encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if known is None or known["back"] != redirect_uri or known["challenge"] != challenge:
                return JSONResponse({"error": "invalid_grant"}, 400)
            token = self.token(**known["person"] | {"nonce": known["nonce"]} | self.change)
            return JSONResponse({"access_token": "opaque", "token_type": "Bearer", "id_token": token})

        return app

    def _send_back(self, asked: dict[str, str], person: dict[str, Any]) -> Response:
        """Send a browser back with a code for this person."""
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        code = secrets.token_urlsafe(8)
        kept = {"nonce": asked["nonce"], "challenge": asked["code_challenge"], "back": asked["redirect_uri"]}
        self.codes[code] = kept | {"person": dict(person)}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 303)


@contextmanager
def providing(host: str = "127.0.0.1", people: dict[str, dict[str, Any]] | None = None) -> Iterator[IdentityProvider]:
    """Run a provider that calls itself by `host`, for as long as a block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        provider = IdentityProvider(f"http://{host}:{listener.getsockname()[1]}", people)
        server = uvicorn.Server(uvicorn.Config(provider.app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield provider
        server.should_exit = True
        thread.join()
