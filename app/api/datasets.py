"""Data sets over HTTP."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from voxelight.app.api.dependencies import PREFIX, Door, Paging
from voxelight.app.api.problems import answer_problem
from voxelight.app.schemas import DatasetAnswer, DatasetChange, DatasetRequest, Label, Page
from voxelight.models.errors import BadInput, Conflict

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.post("", status_code=201)
def create_dataset(services: Door, dataset: DatasetRequest, response: Response) -> DatasetAnswer:
    """Add a data set; without consent and purpose it can't be decoded."""
    answer = services.datasets.create(dataset)
    response.headers["Location"] = f"{PREFIX}/datasets/{answer.name}"
    return _tagged(answer, response)


@router.get("")
def list_datasets(services: Door, paging: Annotated[Paging, Query()]) -> Page[DatasetAnswer]:
    """List data sets, newest first."""
    return services.datasets.list(paging.limit, paging.cursor)


@router.get("/{name}")
def show_dataset(services: Door, name: Label, response: Response) -> DatasetAnswer:
    """Show one data set; its `ETag` is its version."""
    return _tagged(services.datasets.show(name), response)


@router.patch("/{name}", response_model=DatasetAnswer)
def change_dataset(
    services: Door,
    name: Label,
    change: DatasetChange,
    response: Response,
    if_match: Annotated[str | None, Header(description="`ETag` of the version that the change is meant for")] = None,
) -> DatasetAnswer | Response:
    """Change a data set, provided that it still has the version of `If-Match`; 412 where it has not."""
    try:
        return _tagged(services.datasets.change(name, change, _read_version(if_match)), response)
    except Conflict as error:
        return answer_problem(error, 412)


def _tagged(answer: DatasetAnswer, response: Response) -> DatasetAnswer:
    response.headers["ETag"] = f'"{answer.version}"'
    return answer


def _read_version(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    number = re.fullmatch(r'\s*"(\d{1,18})"\s*', if_match)
    if number is None:
        raise BadInput(
            f"If-Match: {if_match[:80]}", 'the ETag of a data set, "3" for one', "Send the ETag as GET gave it."
        )
    return int(number[1])
