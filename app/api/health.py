"""Health over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from voxelight.app.api.dependencies import find_installation
from voxelight.app.auth import act_for
from voxelight.app.schemas import HealthAnswer
from voxelight.app.services import Services
from voxelight.models.errors import Unauthenticated

router = APIRouter(tags=["health"])


@router.get("/health")
def check_health(services: Annotated[Services, Depends(find_installation)], request: Request) -> HealthAnswer:
    """Say whether the database answers and how many jobs wait, those that one may see; 503 where it does not.

    Without an account, where one is asked for, it says no more than that the database answers.
    """
    try:
        return act_for(services, request.headers, request.cookies).check_health()
    except Unauthenticated:
        whole = services.check_health()
        return HealthAnswer(status=whole.status, version="", database="", queued={}, notice=whole.notice)
