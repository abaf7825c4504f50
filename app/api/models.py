"""Models over HTTP."""

from fastapi import APIRouter

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import ModelAnswer, Page

router = APIRouter(tags=["models"])


@router.get("/models")
def list_models(services: Door) -> Page[ModelAnswer]:
    """List the models that have done work here, each with the hash of its weights."""
    return Page(items=services.results.list_models(), next_cursor=None)
