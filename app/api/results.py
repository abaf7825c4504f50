"""Results over HTTP."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query

from voxelight.app.api.dependencies import Door, Paging
from voxelight.app.schemas import Page, ResultAnswer, ResultQuery

router = APIRouter(prefix="/results", tags=["results"])


class ResultPaging(ResultQuery, Paging):
    """Which results: every condition that is set must hold."""


@router.get("")
def query_results(services: Door, asked: Annotated[ResultPaging, Query()]) -> Page[ResultAnswer]:
    """Query what runs gave, newest first, with the files, scores and provenance of each."""
    conditions = ResultQuery(**asked.model_dump(exclude=set(Paging.model_fields)))
    return services.results.query(conditions, asked.limit, asked.cursor)


@router.get("/{run_id}")
def show_result(services: Door, run_id: uuid.UUID) -> ResultAnswer:
    """Show what one run gave."""
    return services.results.show(run_id)
