"""What every request of the client goes through: addresses, documents, pages, errors, a second try."""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, SecretStr

from voxelight.app.client.problems import read_error, say_no_answer
from voxelight.app.client.tagged import Tagged
from voxelight.app.schemas import Page

PREFIX = "/api/v1"
PAGE_ITEMS = 500
M = TypeVar("M", bound=BaseModel)
_REPEATABLE = {"GET", "HEAD", "OPTIONS"}
_PAUSE_S = 0.2


def path_of(*parts: str | uuid.UUID) -> str:
    """Return the address of something, each part quoted."""
    return "/".join(("", *(quote(str(part), safe="") for part in parts)))


def read_params(*asked: BaseModel | None, **more: Any) -> dict[str, Any]:
    """Return conditions as parameters of an address; what is not set is left out."""
    params: dict[str, Any] = {}
    for each in asked:
        params |= each.model_dump(mode="json", exclude_unset=True, exclude_none=True) if each else {}
    more = {name: str(value) if isinstance(value, uuid.UUID) else value for name, value in more.items()}
    return params | {name: value for name, value in more.items() if value is not None}


class Connection:
    """Sends requests to one server; its problems become exceptions.

    Parameters
    ----------
    http : with the address of the server up to `/api/v1`
    tries : how often a request that may be repeated is sent before the server counts as unavailable
    key : of the API, which says who asks; empty: nobody
    """

    def __init__(self, http: httpx.Client, tries: int = 3, key: str = "") -> None:
        self.http = http
        self.tries = tries
        self._key = SecretStr(key)  # shown by no repr

    def send(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        document: BaseModel | Mapping[str, Any] | None = None,
        content: Any = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> httpx.Response:
        """Return the answer to a request.

        Parameters
        ----------
        method : GET, POST and so on
        path : below `/api/v1`, quoted
        params : of the address
        document : of the body, as JSON
        content : of the body, as bytes or in pieces
        headers : those without value are left out

        Raises
        ------
        VoxelightError
            The server refused, with what it found, expected and advises; `Unavailable` where it does not answer.
        """
        known = self._complete(headers)
        if document is not None:
            content, known["Content-Type"] = _write(document), "application/json"
        again = method in _REPEATABLE or "Idempotency-Key" in known
        for turn in range(self.tries if again else 1):
            if turn:
                time.sleep(_PAUSE_S * 2**turn)
            try:
                answer = self.http.request(method, PREFIX + path, params=params, content=content, headers=known)
                break
            except httpx.TransportError as error:
                lost = error
        else:
            raise say_no_answer(lost, self.http.base_url) from lost
        if answer.status_code >= 400:
            raise read_error(answer)
        return answer

    def ask(self, kind: type[M], method: str, path: str, **request: Any) -> M:
        """Return the document that answers a request; its arguments are those of `send`."""
        return kind.model_validate_json(self.send(method, path, **request).content)

    def ask_tagged(self, kind: type[M], method: str, path: str, **request: Any) -> Tagged[M]:
        """Return the same with its `ETag`."""
        answer = self.send(method, path, **request)
        return Tagged(kind.model_validate_json(answer.content), answer.headers["ETag"])

    def iterate(self, kind: type[M], path: str, params: Mapping[str, Any] | None = None) -> Iterator[M]:
        """Go through a list page by page; each page is asked for when it is needed."""
        cursor: str | None = None
        while True:
            asked = {"limit": PAGE_ITEMS, **(params or {})} | ({"cursor": cursor} if cursor else {})
            page = self.ask_page(kind, path, asked)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def ask_page(self, kind: type[M], path: str, params: Mapping[str, Any] | None = None) -> Page[M]:
        """Return one page of a list, or a list that comes whole."""
        return self.ask(Page[kind], "GET", path, params=params)  # type: ignore[valid-type]

    @contextmanager
    def stream(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | None] | None = None,
        silence_s: float | None = None,
    ) -> Iterator[httpx.Response]:
        """Open an answer that is read while it comes; a connection that breaks raises `httpx.TransportError`.

        Parameters
        ----------
        path, params, headers : as of `send`
        silence_s : seconds without a byte after which it counts as broken; those of the client unless given
        """
        known = self._complete(headers)
        timeout: Any = httpx.USE_CLIENT_DEFAULT if silence_s is None else httpx.Timeout(silence_s)
        with self.http.stream("GET", PREFIX + path, params=params, headers=known, timeout=timeout) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise read_error(answer)
            yield answer

    def _complete(self, headers: Mapping[str, str | None] | None) -> dict[str, str]:
        """Return the headers that have a value, with the key."""
        key = self._key.get_secret_value()
        own = {"Authorization": f"Bearer {key}"} if key else {}
        return own | {name: value for name, value in (headers or {}).items() if value is not None}


def _write(document: BaseModel | Mapping[str, Any]) -> bytes:
    if isinstance(document, BaseModel):
        return document.model_dump_json(exclude_unset=True).encode()
    import json

    return json.dumps(document, default=str).encode()
