"""Likeness over HTTP: what is stored that is near to words, a picture, a result or a scan."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import Page
from voxelight.app.schemas_vectors import NearConditions, NearRequest, NeighboursAnswer, SpaceAnswer
from voxelight.app.verbs.vectors import MAX_PICTURE_BYTES
from voxelight.models.errors import BadInput

router = APIRouter(prefix="/vectors", tags=["vectors"])


@router.get("/spaces")
def list_spaces(services: Door) -> Page[SpaceAnswer]:
    """List the spaces: what made their vectors, how many there are, and what each can be asked by."""
    return Page(items=services.vectors.list_spaces(), next_cursor=None)


@router.post("/near")
def find_near(services: Door, request: NearRequest) -> NeighboursAnswer:
    """Find what is nearest to words, to a result or to a scan; exactly, unless `method` is `graph`."""
    return services.vectors.find_near(request)


@router.post(
    "/near/picture",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", "image/jpeg")
            },
        }
    },
)
async def find_near_picture(
    services: Door, request: Request, conditions: Annotated[NearConditions, Query()]
) -> NeighboursAnswer:
    """Find what is nearest to a picture: the body is a PNG or JPEG file and nothing else. Nothing of it is kept."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_PICTURE_BYTES:
            found = f"a picture of more than {MAX_PICTURE_BYTES} bytes"
            raise BadInput(found, f"at most {MAX_PICTURE_BYTES}", "Send a smaller one.")
    return await run_in_threadpool(services.vectors.find_near_picture, bytes(content), conditions)
