"""Identity over HTTP: scans that wait for a person, and results that go back to their study."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from voxelight.app.api.dependencies import Door, Paging
from voxelight.app.schemas import Page, ScanAnswer
from voxelight.app.schemas_privacy import Decision, RejectAnswer, RelinkRequest

router = APIRouter(tags=["privacy"])

_DICOM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/dicom": {"schema": {"type": "string", "format": "binary"}}}}
}


_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}


class HeldPaging(Paging):
    """Which of them."""

    dataset: str | None = Field(None, description="of this data set only")


@router.get("/held")
def list_held(services: Door, asked: Annotated[HeldPaging, Query()]) -> Page[ScanAnswer]:
    """List scans that may show a name in their picture; no job takes them until a person has looked."""
    return services.privacy.list_held(asked.dataset, asked.limit, asked.cursor)


@router.post("/scans/{scan_id}/release")
def release_scan(services: Door, scan_id: uuid.UUID, decision: Decision) -> ScanAnswer:
    """Let jobs take a held scan; who decided and why is kept in its facts."""
    return services.privacy.release(scan_id, decision)


@router.post("/scans/{scan_id}/reject")
def reject_scan(services: Door, scan_id: uuid.UUID, decision: Decision) -> RejectAnswer:
    """Remove a held scan with everything that is stored of it; a receipt stays."""
    return services.privacy.reject(scan_id, decision)


@router.get("/scans/{scan_id}/face", response_class=Response, responses=_PNG)
def preview_face(services: Door, scan_id: uuid.UUID) -> Response:
    """Draw a head before and after its face is taken out, as PNG; nothing is stored."""
    content = services.privacy.preview_face(scan_id)
    return Response(content, media_type="image/png", headers={"Cache-Control": "no-store"})


@router.post("/scans/{scan_id}/deface")
def deface_scan(services: Door, scan_id: uuid.UUID, decision: Decision) -> ScanAnswer:
    """Store a scan without its face in place of what it was; held where it can't be taken out."""
    return services.privacy.deface(scan_id, decision)


@router.post("/results/{run_id}/relink", response_class=Response, responses=_DICOM)
def relink_result(services: Door, run_id: uuid.UUID, wish: RelinkRequest) -> Response:
    """Return the label map as DICOM-SEG that belongs to the original study again; only who sends the key is told."""
    name, content = services.privacy.relink(run_id, wish)
    return Response(
        content,
        media_type="application/dicom",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )
