"""Deletion over HTTP, and its receipts."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Response

from voxelight.app.api.dependencies import Door, Paging
from voxelight.app.api.etags import (
    IfMatch,
    IfNoneMatch,
    answer_changed,
    answer_tagged,
    matches,
    tag_content,
    tag_version,
)
from voxelight.app.schemas import Label, Page
from voxelight.app.schemas_deletion import DeletionAnswer, DeletionRequest, DeletionTarget, ReceiptAnswer
from voxelight.app.services import Services
from voxelight.models.errors import Conflict

router = APIRouter(tags=["deletion"])
Asked = Annotated[DeletionRequest, Query()]


class _ChangedMeanwhile(Conflict):
    """What would go is not what the caller has seen."""


@router.delete("/datasets/{name}", response_model=DeletionAnswer)
def delete_dataset(services: Door, name: Label, asked: Asked, if_match: IfMatch = None) -> Response:
    """Delete a data set with all that belongs to it; `confirm` repeats its name, `dry_run` only says what would go."""
    own = () if if_match is None else (tag_version(services.datasets.show(name).version),)
    return _delete(services, DeletionTarget(what="dataset", dataset=name), asked, if_match, own)


@router.delete("/datasets/{name}/subjects/{subject}", response_model=DeletionAnswer)
def delete_subject(services: Door, name: Label, subject: Label, asked: Asked, if_match: IfMatch = None) -> Response:
    """Delete a subject with scans, results and all that was made of them; `confirm` repeats the label."""
    return _delete(services, DeletionTarget(what="subject", dataset=name, subject=subject), asked, if_match)


@router.delete("/scans/{scan_id}", response_model=DeletionAnswer)
def delete_scan(services: Door, scan_id: uuid.UUID, asked: Asked, if_match: IfMatch = None) -> Response:
    """Delete a scan, its results, and jobs that read it beside others; `confirm` repeats its id."""
    return _delete(services, DeletionTarget(what="scan", id=scan_id), asked, if_match)


@router.delete("/jobs/{job_id}", response_model=DeletionAnswer)
def delete_job(services: Door, job_id: uuid.UUID, asked: Asked, if_match: IfMatch = None) -> Response:
    """Delete a job that has ended, with its results; `confirm` repeats its id."""
    return _delete(services, DeletionTarget(what="job", id=job_id), asked, if_match)


@router.delete("/results/{run_id}", response_model=DeletionAnswer)
def delete_result(services: Door, run_id: uuid.UUID, asked: Asked, if_match: IfMatch = None) -> Response:
    """Delete one result, and what was made of its job as a whole; `confirm` repeats its id."""
    own = () if if_match is None else (tag_content(services.results.show(run_id)),)
    return _delete(services, DeletionTarget(what="result", id=run_id), asked, if_match, own)


@router.get("/receipts")
def list_receipts(services: Door, paging: Annotated[Paging, Query()]) -> Page[ReceiptAnswer]:
    """List what was deleted, newest first: counts and hashes, never content."""
    return services.deletion.list_receipts(paging.limit, paging.cursor)


@router.get("/receipts/{receipt_id}", response_model=ReceiptAnswer)
def show_receipt(services: Door, receipt_id: uuid.UUID, if_none_match: IfNoneMatch = None) -> Response:
    """Show the receipt of one deletion; a file to keep."""
    answer = services.deletion.show_receipt(receipt_id)
    tagged = answer_tagged(answer, tag_content(answer), if_none_match)
    tagged.headers["Content-Disposition"] = f'attachment; filename="receipt-{receipt_id}.json"'
    return tagged


def _delete(
    services: Services, target: DeletionTarget, asked: DeletionRequest, if_match: str | None, own: tuple[str, ...] = ()
) -> Response:
    """Delete what has the tag of `If-Match`: its own, or that of the dry run."""

    def check(planned: DeletionAnswer) -> None:
        tags = (*own, tag_content(planned))
        if if_match is not None and not any(matches(if_match, tag) for tag in tags):
            raise _ChangedMeanwhile(
                f"the ETags {', '.join(tags)}", if_match[:80], "Look again at what would go, then repeat the deletion."
            )

    try:
        answer = services.deletion.delete(target, asked, check)
    except _ChangedMeanwhile as error:
        return answer_changed(error)
    return answer_tagged(answer, tag_content(answer))
