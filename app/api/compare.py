"""Comparisons over HTTP."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import ResultQuery
from voxelight.app.schemas_search import CompareAnswer
from voxelight.app.verbs.compare import SHOWN
from voxelight.models.errors import BadInput

router = APIRouter(prefix="/compare", tags=["results"])


class Sides(ResultQuery):
    """Two jobs, or two models over the results that meet the other conditions."""

    a: uuid.UUID | None = Field(None, description="first job")
    b: uuid.UUID | None = Field(None, description="second job")
    model_a: str | None = Field(None, description="first model")
    model_b: str | None = Field(None, description="second model")
    limit: int = Field(SHOWN, ge=0, le=1000, description="items of each metric, and pairs")
    overlap: bool = Field(False, description="also read the label maps of the pairs, for the Dice of both")


@router.get("")
def compare_results(services: Door, asked: Annotated[Sides, Query()]) -> CompareAnswer:
    """Compare two jobs or two models over what both worked on: paired differences, and the items behind them."""
    if asked.a and asked.b:
        found = services.compare.jobs(asked.a, asked.b, asked.limit)
    elif asked.model_a and asked.model_b:
        query = ResultQuery(**asked.model_dump(exclude_unset=True, include=set(ResultQuery.model_fields)))
        found = services.compare.models(asked.model_a, asked.model_b, query, asked.limit)
    else:
        raise BadInput("one side or none", "a and b, or model_a and model_b", "Name both sides.")
    if not asked.overlap or found.kind != "segment":
        return found
    pairs = [
        pair.model_copy(update={"overlap": services.compare.overlap(pair.first, pair.second)}) for pair in found.pairs
    ]
    return found.model_copy(update={"pairs": pairs})
