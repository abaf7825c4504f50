"""Follow-up over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import Label, Page
from voxelight.app.schemas_reviews import FollowupAnswer, FollowupQuery, SeriesAnswer

router = APIRouter(prefix="/datasets", tags=["followup"])


@router.get("/{dataset}/followup")
def list_series(services: Door, dataset: Label) -> Page[SeriesAnswer]:
    """List which subjects can be followed, by which recipe and over which sessions."""
    return Page(items=services.followup.list_series(dataset), next_cursor=None)


@router.get("/{dataset}/subjects/{subject}/followup")
def follow_subject(
    services: Door, dataset: Label, subject: Label, asked: Annotated[FollowupQuery, Query()]
) -> FollowupAnswer:
    """Follow one subject over its sessions: volumes, changes with their interval, and whether they are detectable."""
    return services.followup.show(dataset, subject, asked)
