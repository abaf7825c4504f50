"""Files that came out, over HTTP: whole or in part, never twice where the client has them."""

import uuid
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from voxelight.app.api.dependencies import Door
from voxelight.app.api.problems import answer_problem
from voxelight.app.api.ranges import NoSuchRange, parse_range
from voxelight.app.schemas import ArtifactAnswer

router = APIRouter(prefix="/artifacts", tags=["artifacts"])
_CONTENT: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.head("/{artifact_id}", response_class=Response)
def describe_artifact(
    services: Door, artifact_id: uuid.UUID, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Say what a file is without its content."""
    artifact = services.results.show_artifact(artifact_id)
    headers = _describe(artifact)
    if _has_it(artifact, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(headers=headers | {"Content-Length": str(artifact.size)}, media_type=artifact.media_type)


@router.get(
    "/{artifact_id}",
    response_class=StreamingResponse,
    responses={
        200: _CONTENT,
        206: _CONTENT | {"description": "The part that `Range` asks for"},
        304: {"description": "The client has it: its sha256 is that of `If-None-Match`"},
    },
)
def read_artifact(
    services: Door,
    artifact_id: uuid.UUID,
    range_: Annotated[str | None, Header(alias="Range", description="one range of bytes, `bytes=0-99` for one")] = None,
    if_range: Annotated[str | None, Header(description="`ETag`; the range holds only for this content")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Send the content of a file, or one range of it; its `ETag` is its sha256."""
    artifact = services.results.show_artifact(artifact_id)
    headers = _describe(artifact)
    if _has_it(artifact, if_none_match):
        return Response(status_code=304, headers=headers)
    if if_range is not None and if_range != _tag(artifact):
        range_ = None
    try:
        part = parse_range(range_, artifact.size)
    except NoSuchRange as error:
        return answer_problem(error, 416, {"Content-Range": f"bytes */{artifact.size}"})
    start, stop = part or (0, artifact.size)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{artifact.size}"
    headers["Content-Length"] = str(stop - start)
    content = _begun(services.results.read_range(artifact, start, stop))
    return StreamingResponse(content, 206 if part else 200, headers, artifact.media_type)


def _begun(content: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first piece now, so that a blob that is missing is an error and not half an answer."""
    return chain((next(content, b""),), content)


def _describe(artifact: ArtifactAnswer) -> dict[str, str]:
    return {
        "ETag": _tag(artifact),
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(artifact.name, safe='')}",
    }


def _tag(artifact: ArtifactAnswer) -> str:
    return f'"{artifact.sha256}"'


def _has_it(artifact: ArtifactAnswer, if_none_match: str | None) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")}
    return not tags.isdisjoint({"*", _tag(artifact)})
