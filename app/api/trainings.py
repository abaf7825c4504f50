"""Curves of trainings over HTTP."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import Page
from voxelight.app.schemas_training import CurveAnswer

router = APIRouter(prefix="/jobs", tags=["trainings"])


@router.get("/{job_id}/curve")
def read_curve(
    services: Door, job_id: uuid.UUID, since: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0
) -> Page[CurveAnswer]:
    """Read the curve of every item of a training, from a step on."""
    return Page(items=services.trainings.read_curves(job_id, since), next_cursor=None)
