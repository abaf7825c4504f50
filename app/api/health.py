"""Health over HTTP."""

from fastapi import APIRouter

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import HealthAnswer

router = APIRouter(tags=["health"])


@router.get("/health")
def check_health(services: Door) -> HealthAnswer:
    """Say whether the database answers and how many jobs wait; 503 where it does not."""
    return services.check_health()
