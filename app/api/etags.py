"""`ETag` and `If-Match`: an answer is not sent twice, and nobody changes what they have not seen."""

import hashlib
import re
from typing import Annotated

from fastapi import Header, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from voxelight.app.api.problems import answer_problem
from voxelight.models.errors import BadInput, Conflict

_DIGITS = 32

IfMatch = Annotated[str | None, Header(description="`ETag` of what the request is meant for; 412 where it is another")]
IfNoneMatch = Annotated[str | None, Header(description="`ETag` of what you have; 304 where it is still the same")]


def tag_content(answer: BaseModel) -> str:
    """Return the `ETag` of a row that keeps no version: a hash of what is shown of it."""
    return f'"{hashlib.sha256(answer.model_dump_json().encode()).hexdigest()[:_DIGITS]}"'


def tag_version(version: int) -> str:
    """Return the `ETag` of a row that counts its changes."""
    return f'"{version}"'


def answer_tagged(answer: BaseModel, tag: str, if_none_match: str | None = None, status: int = 200) -> Response:
    """Return an answer with its `ETag`; 304 and nothing more where the caller has it."""
    headers = {"ETag": tag}
    if if_none_match is not None and matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(answer.model_dump_json(), status, headers, "application/json")


def matches(header: str, tag: str) -> bool:
    """Whether a list of tags holds one, or is `*`."""
    given = [each.strip().removeprefix("W/") for each in header.split(",")]
    return tag in given or "*" in given


def read_version(if_match: str | None) -> int | None:
    """Return the version that a change is meant for; None: whichever there is.

    Raises
    ------
    BadInput
        The header holds no version.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    number = re.fullmatch(r'\s*"(\d{1,18})"\s*', if_match)
    if number is None:
        raise BadInput(f"If-Match: {if_match[:80]}", 'an ETag, "3" for one', "Send the ETag as GET gave it.")
    return int(number[1])


def require_match(if_match: str | None, tag: str) -> None:
    """Refuse a change that was meant for another state of a row.

    Raises
    ------
    Conflict
        The row has another tag by now.
    """
    if if_match is not None and not matches(if_match, tag):
        raise Conflict(f"the ETag {tag}", f"{if_match[:80]}", "Read it again and repeat the change on what is there.")


def answer_changed(error: Conflict) -> JSONResponse:
    """Return 412: somebody changed the row since the version in `If-Match`."""
    return answer_problem(error, 412)
