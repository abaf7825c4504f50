"""Results over HTTP."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from voxelight.app.api.dependencies import Door, Paging
from voxelight.app.api.etags import IfNoneMatch, answer_tagged, tag_content
from voxelight.app.schemas import Page, ResultAnswer, ResultQuery
from voxelight.app.schemas_search import SparseResult

router = APIRouter(tags=["results"])


class ResultPaging(ResultQuery, Paging):
    """Which results, in which order: every condition that is set must hold."""

    search: str | None = Field(None, description="slug of a saved search; what is set beside it takes its place")
    fields: str | None = Field(None, max_length=400, description="fields of each, commas between; id always")


@router.get("/results", response_model=Page[ResultAnswer] | Page[SparseResult])
def query_results(services: Door, asked: Annotated[ResultPaging, Query()]) -> Response:
    """Query what runs gave, newest first unless sorted, with the files, scores and provenance of each.

    With `fields` the answer is shorter, and sooner there: nothing else is read.
    """
    own = asked.model_dump(exclude_unset=True, include=set(ResultQuery.model_fields))
    saved = services.searches.read(asked.search).model_dump(exclude_unset=True) if asked.search else {}
    query = ResultQuery(**saved | own)
    if asked.fields is None:
        page = services.results.query(query, asked.limit, asked.cursor).model_dump_json()
    else:
        names = [name.strip() for name in asked.fields.split(",") if name.strip()]
        page = services.results.pick(query, names, asked.limit, asked.cursor).model_dump_json()
    return Response(page, media_type="application/json")


@router.get("/results/{run_id}", response_model=ResultAnswer, responses={304: {"description": "It is still the same"}})
def show_result(services: Door, run_id: uuid.UUID, if_none_match: IfNoneMatch = None) -> Response:
    """Show what one run gave; its `ETag` is a hash of what is shown."""
    answer = services.results.show(run_id)
    return answer_tagged(answer, tag_content(answer), if_none_match)


@router.get("/metrics")
def list_metrics(services: Door) -> Page[str]:
    """List the names of all metrics that some result has, for conditions and order."""
    return Page(items=services.results.list_metrics(), next_cursor=None)
