"""Scans over HTTP: uploads of any size, and what the intake check found in them."""

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from pydantic import Field

from voxelight.app.api.bodies import stream_into
from voxelight.app.api.dependencies import PREFIX, Door, Paging
from voxelight.app.schemas import PREFER, VOLUME, Label, Page, ScanAnswer, ScanRequest, Wire
from voxelight.models.errors import NotFound

router = APIRouter(tags=["scans"])


class ScanPaging(Paging):
    """Which scans: every condition that is set must hold."""

    dataset: str | None = None
    subject: str | None = None
    kind: str | None = Field(None, description="volume, series, betas, events, picture or recording")


class Place(Wire):
    """Whose scan it is."""

    subject: Label = "01"
    session: Label = "01"
    prefer: Literal["sform", "qform"] | None = Field(None, description=PREFER)
    volume: int | None = Field(None, ge=1, le=1_000_000, description=VOLUME)


@router.put(
    "/datasets/{dataset}/scans/{filename:path}",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload_scan(
    services: Door,
    dataset: Label,
    filename: Annotated[str, Path(description="plain file name; its suffix says what the file is")],
    request: Request,
    response: Response,
    place: Annotated[Place, Query()],
) -> ScanAnswer:
    """Take in a file: the body is its content and nothing else.

    It is written to the disk as it arrives, checked, and only then stored. A refusal, or a client that goes away,
    leaves nothing behind.
    """
    scan = ScanRequest(name=filename, dataset=dataset, **place.model_dump())
    async with contextmanager_in_threadpool(services.scans.receive(scan)) as incoming:
        await stream_into(request, incoming)
        answer = await run_in_threadpool(services.scans.keep, incoming, scan)
    response.headers["Location"] = f"{PREFIX}/scans/{answer.id}"
    return answer


@router.get("/scans")
def list_scans(services: Door, asked: Annotated[ScanPaging, Query()]) -> Page[ScanAnswer]:
    """List scans, newest first."""
    return services.scans.list(asked.dataset, asked.subject, asked.kind, asked.limit, asked.cursor)


@router.get("/scans/{scan_id}")
def show_scan(services: Door, scan_id: uuid.UUID) -> ScanAnswer:
    """Show what the intake check found in one scan."""
    return services.scans.show(scan_id)


@router.get("/scans/{scan_id}/thumbnail", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def show_thumbnail(services: Door, scan_id: uuid.UUID) -> Response:
    """Show a scan as a small picture."""
    picture = services.scans.read_thumbnail(scan_id)
    if picture is None:
        raise NotFound("a scan without a thumbnail", "an image or a picture", "Look at its facts instead.")
    return Response(picture, media_type="image/png")
