"""The viewer and corrections over HTTP."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.responses import StreamingResponse

from voxelight.app.api.bodies import stream_into
from voxelight.app.api.dependencies import PREFIX, Door, Taken
from voxelight.app.api.files import RESPONSES, Asked, answer_file
from voxelight.app.schemas import Page
from voxelight.app.schemas_viewer import CorrectionRequest, InterpolationRequest, VersionAnswer, ViewAnswer

router = APIRouter(tags=["viewer"])
_NIFTI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("/scans/{scan_id}/content", response_class=StreamingResponse, responses=RESPONSES)
def read_scan(services: Door, scan_id: uuid.UUID, asked: Asked) -> Response:
    """Send a scan as it is stored, or one range of it."""
    return answer_file(services.viewer.open_scan(scan_id), asked)


@router.get("/scans/{scan_id}/image", response_class=StreamingResponse, responses=RESPONSES)
def read_image(services: Door, scan_id: uuid.UUID, asked: Asked, taken: Taken) -> Response:
    """Send a scan as NIfTI, converted where it came in another form; clinical ones to the page of this server alone."""
    if taken:
        services.privacy.refuse_scan(scan_id)
    return answer_file(services.viewer.open_image(scan_id), asked)


@router.get("/scans/{scan_id}/view")
def view_scan(services: Door, scan_id: uuid.UUID) -> ViewAnswer:
    """Say what the viewer shows of a scan."""
    return services.viewer.view_scan(scan_id)


@router.get("/results/{run_id}/view")
def view_result(services: Door, run_id: uuid.UUID) -> ViewAnswer:
    """Say what the viewer shows of a result: its image, labels and every version of its label map."""
    return services.viewer.view_result(run_id)


@router.get("/results/{run_id}/corrections")
def list_corrections(services: Door, run_id: uuid.UUID) -> Page[VersionAnswer]:
    """List the label maps of a result: the model's own first, then its corrections, the oldest first."""
    return Page(items=services.corrections.list(run_id), next_cursor=None)


@router.post("/results/{run_id}/corrections", status_code=201, openapi_extra=_NIFTI)
async def add_correction(
    services: Door,
    run_id: uuid.UUID,
    request: Request,
    response: Response,
    asked: Annotated[CorrectionRequest, Query()],
) -> VersionAnswer:
    """Store a corrected label map beside its base: the body is a NIfTI file on the grid of the base, nothing else.

    What is stored already stays as it is. The same correction sent again is stored once.
    """
    async with contextmanager_in_threadpool(services.corrections.receive(run_id)) as incoming:
        await stream_into(request, incoming)
        answer = await run_in_threadpool(services.corrections.keep, incoming, run_id, asked)
    response.headers["Location"] = f"{PREFIX}/artifacts/{answer.artifact}"
    return answer


@router.post(
    "/results/{run_id}/interpolation",
    response_class=Response,
    responses={200: {"content": {"application/gzip": {}}}},
    openapi_extra=_NIFTI,
)
async def interpolate(
    services: Door, run_id: uuid.UUID, request: Request, asked: Annotated[InterpolationRequest, Query()]
) -> Response:
    """Fill a label of a drawn map in between slices; the answer is the map as NIfTI, and nothing is stored."""
    async with contextmanager_in_threadpool(services.corrections.receive(run_id)) as incoming:
        await stream_into(request, incoming)
        content = await run_in_threadpool(services.corrections.interpolate, incoming, run_id, asked)
    return Response(content, media_type="application/gzip")
