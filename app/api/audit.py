"""The audit log over HTTP."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from voxelight.app.api.dependencies import Door, Paging
from voxelight.app.schemas import Page
from voxelight.app.schemas_audit import AuditAnswer, AuditVerified

router = APIRouter(prefix="/audit", tags=["audit"])


class AuditPaging(Paging):
    """Which events."""

    action: str | None = None
    target: str | None = None


@router.get("")
def list_events(services: Door, asked: Annotated[AuditPaging, Query()]) -> Page[AuditAnswer]:
    """List what was done, newest first: who, what, to what; ids and hashes, never content."""
    return services.audit.list(asked.limit, asked.cursor, asked.action, asked.target)


@router.get("/verification")
def verify_events(services: Door, since: str | None = None) -> AuditVerified:
    """Compute the hash of every event again; `since` is the `head` of an earlier answer, and must be there still."""
    return services.audit.verify(since)


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
def export_events(services: Door) -> StreamingResponse:
    """Send every event as a line of JSON, the oldest first."""
    lines: Iterator[str] = services.audit.export()
    return StreamingResponse(lines, media_type="application/x-ndjson")
