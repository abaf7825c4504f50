"""Workers and queues over HTTP."""

from fastapi import APIRouter

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import Page
from voxelight.app.schemas_workers import QueueAnswer, WorkerAnswer

router = APIRouter(tags=["workers"])


@router.get("/workers")
def list_workers(services: Door, alive: bool = False) -> Page[WorkerAnswer]:
    """List the workers, where each runs, what it has and what it keeps loaded; also those that are gone for a day."""
    return Page(items=list(services.workers.list(alive)), next_cursor=None)


@router.get("/queues")
def list_queues(services: Door) -> Page[QueueAnswer]:
    """List the queues with how much waits on each and for how long."""
    return Page(items=list(services.workers.queues()), next_cursor=None)
