"""Exports over HTTP: what one would hold, and the files, streamed."""

import uuid
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from voxelight.app.api.dependencies import Door
from voxelight.app.exports.tables import CSV_TYPE, PARQUET_TYPE
from voxelight.app.exports.zipping import MEDIA_TYPE
from voxelight.app.schemas import ResultQuery
from voxelight.app.schemas_exports import ExportAnswer, ExportFormat, ExportName
from voxelight.app.services import Services

router = APIRouter(prefix="/exports", tags=["exports"])
_TYPES: dict[ExportName, str] = {
    "archive.zip": MEDIA_TYPE,
    "report.html": "text/html; charset=utf-8",
    "report.pdf": "application/pdf",
    "metrics.csv": CSV_TYPE,
    "metrics.parquet": PARQUET_TYPE,
}
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


class ExportSelection(ResultQuery):
    """Which results: those of `run`, else every one that fits all conditions."""

    search: str | None = Field(None, description="slug of a saved search; what is set beside it takes its place")
    run: list[uuid.UUID] = Field(default_factory=list, max_length=1000, description="ids of results, repeated")
    format: list[ExportFormat] = Field(default_factory=list, max_length=12, description="of the archive; none: all")

    def read_query(self, services: Services) -> ResultQuery:
        """Return the conditions, with those of the saved search."""
        own = self.model_dump(exclude_unset=True, include=set(ResultQuery.model_fields))
        saved = services.searches.read(self.search).model_dump(exclude_unset=True) if self.search else {}
        return ResultQuery(**saved | own)


@router.get("")
def plan_export(services: Door, asked: Annotated[ExportSelection, Query()]) -> ExportAnswer:
    """Say what an export of these results would hold, format by format."""
    return services.exports.plan(asked.read_query(services), asked.run)


@router.get(
    "/{name}",
    response_class=StreamingResponse,
    responses={200: {"content": {kind.partition(";")[0]: _BINARY for kind in _TYPES.values()}}},
)
def read_export(services: Door, name: ExportName, asked: Annotated[ExportSelection, Query()]) -> Response:
    """Send results as one file, made while it is sent; nothing of it stays on the server.

    `archive.zip` holds the formats that are asked for, all where none is named.
    """
    query, runs = asked.read_query(services), asked.run
    headers = {"Content-Disposition": f'attachment; filename="voxelight-{name}"', "Cache-Control": "no-store"}
    if name in ("report.html", "report.pdf"):
        report = services.exports.report(query, runs, pdf=name == "report.pdf")
        return Response(report, headers=headers, media_type=_TYPES[name])
    if name == "archive.zip":
        content = services.exports.stream(query, runs, asked.format or list(_ALL))
    else:
        content = services.exports.tabulate(query, runs, parquet=name == "metrics.parquet")
    return StreamingResponse(_begun(content), headers=headers, media_type=_TYPES[name])


def _begun(content: Iterator[bytes]) -> Iterator[bytes]:
    """Make the first piece now, so that a refusal is an error and not half an answer."""
    return chain((next(content, b""),), content)


_ALL: tuple[ExportFormat, ...] = get_args(ExportFormat)
