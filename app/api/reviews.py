"""Reviews over HTTP: cases with their contact sheets, verdicts, the agreement of two reviewers, a job's numbers."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from voxelight.app.api.dependencies import Door, Paging, Taken
from voxelight.app.api.etags import IfMatch, IfNoneMatch, answer_changed, answer_tagged, read_version, tag_version
from voxelight.app.schemas import Page, Wire
from voxelight.app.schemas_reviews import (
    AgreementAnswer,
    CaseAnswer,
    Convention,
    GroupAnswer,
    ProgressAnswer,
    ReviewAnswer,
    Reviewer,
    ReviewerAnswer,
    ReviewRequest,
    VerdictFilter,
)
from voxelight.models.errors import Conflict

router = APIRouter(tags=["reviews"])

_HTML: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {}}}}
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}, 304: {"description": "The client has it"}}
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'"


class CasePaging(Paging):
    """Whose cases, and which of them."""

    reviewer: Reviewer | None = Field(None, description="who looks; nobody's view is shown without a name")
    verdict: VerdictFilter | None = Field(None, description="of this reviewer; none: those that wait for a verdict")


class OneReviewer(Wire):
    """Who looks."""

    reviewer: Reviewer


class MaybeReviewer(Wire):
    """Who looks; nobody's view is shown without a name."""

    reviewer: Reviewer | None = None


class TwoReviewers(Wire):
    """Whose verdicts are compared."""

    first: Reviewer
    second: Reviewer


class SheetWish(Wire):
    """How a contact sheet is drawn."""

    convention: Convention = "neurological"


@router.get("/jobs/{job_id}/cases")
def list_cases(services: Door, job_id: uuid.UUID, asked: Annotated[CasePaging, Query()]) -> Page[CaseAnswer]:
    """List the results of a job in its order; views of others show once the reviewer's own is saved."""
    return services.reviews.list_cases(job_id, asked.reviewer, asked.verdict, asked.limit, asked.cursor)


@router.get("/jobs/{job_id}/progress")
def show_progress(services: Door, job_id: uuid.UUID, asked: Annotated[OneReviewer, Query()]) -> ProgressAnswer:
    """Show how far a reviewer is with a job."""
    return services.reviews.find_progress(job_id, asked.reviewer)


@router.get("/jobs/{job_id}/reviewers")
def list_reviewers(services: Door, job_id: uuid.UUID) -> Page[ReviewerAnswer]:
    """List who has reviewed results of a job, and how many; not with which verdict."""
    return Page(items=services.reviews.list_reviewers(job_id), next_cursor=None)


@router.get("/jobs/{job_id}/agreement")
def compare_reviewers(services: Door, job_id: uuid.UUID, asked: Annotated[TwoReviewers, Query()]) -> AgreementAnswer:
    """Compare two reviewers: Cohen's kappa of their verdicts, Dice of their corrections, each with its interval."""
    return services.quality.agree(job_id, asked.first, asked.second)


@router.get("/jobs/{job_id}/group")
def show_group(services: Door, job_id: uuid.UUID) -> GroupAnswer:
    """Show the numbers of all cases of a job side by side, outliers marked."""
    return services.quality.group(job_id)


@router.get("/jobs/{job_id}/group.html", response_class=Response, responses=_HTML)
def download_group(services: Door, job_id: uuid.UUID, taken: Taken) -> Response:
    """Show the same as one page that asks nobody for anything; of clinical data to the page of this server alone."""
    from voxelight.app.exports.group_page import write_group

    if taken:
        services.privacy.refuse_job(job_id)
    headers = {"Content-Security-Policy": _REPORT_POLICY}
    return Response(write_group(services.quality.group(job_id)), media_type="text/html", headers=headers)


@router.get("/results/{run_id}/case")
def show_case(services: Door, run_id: uuid.UUID, asked: Annotated[MaybeReviewer, Query()]) -> CaseAnswer:
    """Show one result as it is reviewed."""
    return services.reviews.show_case(run_id, asked.reviewer)


@router.get("/results/{run_id}/sheet", response_class=Response, responses=_PNG)
def draw_sheet(
    services: Door,
    run_id: uuid.UUID,
    taken: Taken,
    asked: Annotated[SheetWish, Query()],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Draw the contact sheet of a result: labels over their image, or what was seen beside what was decoded."""
    if taken:
        services.privacy.refuse_job(services.results.show(run_id).job)
    content, tag = services.sheets.draw(run_id, asked.convention)
    if if_none_match is not None and tag in if_none_match:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(content, media_type="image/png", headers={"ETag": tag})


@router.get("/results/{run_id}/reviews/{reviewer}", response_model=ReviewAnswer)
def show_review(services: Door, run_id: uuid.UUID, reviewer: Reviewer, if_none_match: IfNoneMatch = None) -> Response:
    """Show what one reviewer thinks of a result; `ETag` counts how often it was saved."""
    answer = services.reviews.show(run_id, reviewer)
    return answer_tagged(answer, tag_version(answer.version), if_none_match)


@router.put("/results/{run_id}/reviews/{reviewer}", response_model=ReviewAnswer)
def save_review(
    services: Door, run_id: uuid.UUID, reviewer: Reviewer, review: ReviewRequest, if_match: IfMatch = None
) -> Response:
    """Save what a reviewer thinks of a result, in place of what that reviewer thought before."""
    try:
        answer = services.reviews.save(run_id, reviewer, review, read_version(if_match))
    except Conflict as error:
        return answer_changed(error)
    return answer_tagged(answer, tag_version(answer.version))


@router.delete("/results/{run_id}/reviews/{reviewer}", status_code=204, response_class=Response)
def withdraw_review(services: Door, run_id: uuid.UUID, reviewer: Reviewer, if_match: IfMatch = None) -> Response:
    """Take a reviewer's view back, as if it had never been saved."""
    try:
        services.reviews.withdraw(run_id, reviewer, read_version(if_match))
    except Conflict as error:
        return answer_changed(error)
    return Response(status_code=204)
