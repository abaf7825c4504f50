"""Every error as a problem of RFC 9457."""

import logging
import re
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from voxelight.app.api.problem_page import show_problem, wants_page
from voxelight.app.auth import COOKIE
from voxelight.app.problem import describe_problem
from voxelight.app.schemas import Problem
from voxelight.models.errors import BadInput, NotFound, Unavailable, VoxelightError

MEDIA_TYPE = "application/problem+json"
_SHOWN = 80  # characters of what a person sent
_NOBODY_LISTENS = 499
_log = logging.getLogger(__name__)

RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "What is wrong with the request, and what to do"},
    "5XX": {"model": Problem, "description": "What is wrong here, and what to do"},
}

Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


def answer_problem(
    error: VoxelightError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error as a problem; its status is that of the table, unless given."""
    problem = describe_problem(error, status)
    known = dict(headers or {}) | ({"WWW-Authenticate": "Bearer"} if problem.status == 401 else {})
    return JSONResponse(problem.model_dump(), problem.status, known, MEDIA_TYPE)


async def _answer_ours(request: Request, error: VoxelightError) -> Response:
    answer = answer_problem(error)
    shown = request.headers.get("authorization") or request.cookies.get(COOKIE)
    if answer.status_code == 403 or (answer.status_code == 401 and shown):
        route = getattr(request.scope.get("route"), "path", "")  # without what was filled in, a label for one
        principal = getattr(request.state, "principal", None)
        note = partial(request.app.state.services.audit.note, actor=principal.name if principal else "")
        await run_in_threadpool(note, "deny", f"{request.method} {route}", status=answer.status_code)
    return show_problem(describe_problem(error)) if wants_page(request) else answer


async def _answer_validation(_: Request, error: RequestValidationError) -> Response:
    faults = error.errors()
    return answer_problem(
        BadInput(
            "; ".join(_say_found(fault) for fault in faults),
            "; ".join(f"{_say_place(fault)}: {fault['msg']}" for fault in faults),
            "Correct the request; /api/openapi.json describes it.",
        )
    )


async def _answer_http(request: Request, error: HTTPException) -> Response:
    asked = f"{request.method} {request.url.path}"
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return await _answer_ours(
            request,
            NotFound(f"no route {asked}", "a route of this API", "Look it up in /api/openapi.json or in docs/http.md."),
        )
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_find_methods(request))
        problem = BadInput(asked, headers["Allow"], "Use a method that this route has.")
    elif error.status_code == 413:
        problem = BadInput(f"{asked} with {error.detail}", "a small JSON document", "Send files with PUT, one by one.")
    else:
        problem = BadInput(f"{asked}: {error.detail}", "a request of HTTP/1.1", "Correct the request.")
    return answer_problem(problem, error.status_code, headers)


async def _answer_nobody(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=_NOBODY_LISTENS)


async def _answer_database(_: Request, error: OperationalError) -> Response:
    _log.error("The database does not answer", exc_info=error)
    return answer_problem(
        Unavailable("no answer from the database", "one", "Try again; if it stays, look into the server's log.")
    )


async def _answer_unstorable(_: Request, __: DataError) -> Response:
    return answer_problem(
        BadInput("a value that the database can't hold", "plain text and numbers", "Take NUL characters out.")
    )


async def _answer_unexpected(_: Request, __: Exception) -> Response:
    # The server logs the traceback: the exception is raised again once this has been sent.
    return answer_problem(
        VoxelightError(
            "an error that nobody foresaw",
            "an answer",
            "Try again; if it stays, report it with the server's log of this minute.",
        )
    )


def _say_place(fault: Mapping[str, Any]) -> str:
    where, *path = (str(part) for part in fault["loc"])
    return f"{where} {'.'.join(path)}".strip()


def _say_found(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "missing":
        return f"no {_say_place(fault)}"
    if fault["type"] == "json_invalid":
        return f"a body that is no JSON ({fault['ctx']['error']})"
    shown = repr(fault.get("input"))
    return f"{shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + '...'} as {_say_place(fault)}"


def _find_methods(request: Request) -> list[str]:
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return sorted(
        method.upper()
        for template, operations in request.app.openapi()["paths"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        for method in operations
    )


HANDLERS: dict[int | type[Exception], Handler] = {
    VoxelightError: _answer_ours,
    RequestValidationError: _answer_validation,
    HTTPException: _answer_http,
    ClientDisconnect: _answer_nobody,
    OperationalError: _answer_database,
    DataError: _answer_unstorable,
    Exception: _answer_unexpected,
}
