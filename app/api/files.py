"""Stored files over HTTP: whole or in part, never twice where the client has them."""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Header, Response
from fastapi.responses import StreamingResponse

from voxelight.app.api.problems import answer_problem
from voxelight.app.api.ranges import NoSuchRange, parse_range
from voxelight.app.schemas import Wire
from voxelight.app.verbs.files import StoredFile

_CONTENT: dict[str, Any] = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _CONTENT,
    206: _CONTENT | {"description": "The part that `Range` asks for"},
    304: {"description": "The client has it: its hash is that of `If-None-Match`"},
}


class Wanted(Wire):
    """What of a file a client asks for."""

    range: str | None
    if_range: str | None
    if_none_match: str | None


async def read_wanted(
    range_: Annotated[str | None, Header(alias="Range", description="one range of bytes, `bytes=0-99` for one")] = None,
    if_range: Annotated[str | None, Header(description="`ETag`; the range holds only for this content")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Wanted:
    """Read the headers that ask for a part of a file."""
    return Wanted(range=range_, if_range=if_range, if_none_match=if_none_match)


Asked = Annotated[Wanted, Depends(read_wanted)]


def describe_file(file: StoredFile, if_none_match: str | None) -> Response:
    """Say what a file is without its content."""
    headers = _describe(file)
    if _has_it(file, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(headers=headers | {"Content-Length": str(file.size)}, media_type=file.media_type)


def answer_file(file: StoredFile, asked: Wanted) -> Response:
    """Send the content of a file, or one range of it; its `ETag` is its tag."""
    headers = _describe(file)
    if _has_it(file, asked.if_none_match):
        return Response(status_code=304, headers=headers)
    ranged = asked.range if asked.if_range is None or asked.if_range == _tag(file) else None
    try:
        part = parse_range(ranged, file.size)
    except NoSuchRange as error:
        return answer_problem(error, 416, {"Content-Range": f"bytes */{file.size}"})
    start, stop = part or (0, file.size)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    headers["Content-Length"] = str(stop - start)
    return StreamingResponse(_begun(file.read(start, stop)), 206 if part else 200, headers, file.media_type)


def _begun(content: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first piece now, so that a blob that is missing is an error and not half an answer."""
    return chain((next(content, b""),), content)


def _describe(file: StoredFile) -> dict[str, str]:
    return {
        "ETag": _tag(file),
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(file.name, safe='')}",
    }


def _tag(file: StoredFile) -> str:
    return f'"{file.tag}"'


def _has_it(file: StoredFile, if_none_match: str | None) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")}
    return not tags.isdisjoint({"*", _tag(file)})
