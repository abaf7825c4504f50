"""Jobs over HTTP: submit, follow, cancel, repeat, copy."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import Field

from voxelight.app.api.dependencies import PREFIX, Door, Paging
from voxelight.app.api.problems import answer_problem
from voxelight.app.schemas import JobAnswer, JobRequest, Page, RunAnswer
from voxelight.app.schemas_jobs import JobChange, JobClone, LogAnswer, RetryRequest
from voxelight.app.services import Services
from voxelight.app.verbs.jobs import ChangedMeanwhile, describe_version
from voxelight.storage.queries import MAX_PAGE

router = APIRouter(prefix="/jobs", tags=["jobs"])

RunStatus = Literal["pending", "running", "done", "failed", "cancelled"]
JobStatus = Literal["queued", "running", "done", "failed", "cancelled"]
_ENDED = ("done", "failed", "cancelled")
_SILENCE_S = 15.0  # proxies close what is silent for longer


Key = Annotated[
    str | None, Header(min_length=1, max_length=200, description="the same key gives the same job, however often")
]


class JobPaging(Paging):
    """Which jobs."""

    dataset: str | None = None
    status: list[JobStatus] = Field(default_factory=list, description="one of these; repeat for more")


class RunPaging(Paging):
    """Which items of a job."""

    status: RunStatus | None = None


class LogPaging(Paging):
    """Which lines of a job's log."""

    newest: bool = Field(False, description="the last lines in place of the first; then there is no next page")


@router.post("", status_code=201)
def submit_job(services: Door, job: JobRequest, response: Response, idempotency_key: Key = None) -> JobAnswer:
    """Submit one recipe over many scans."""
    return _created(services.jobs.submit(job, idempotency_key), response)


@router.get("")
def list_jobs(services: Door, asked: Annotated[JobPaging, Query()]) -> Page[JobAnswer]:
    """List jobs, newest first."""
    return services.jobs.list(asked.dataset, asked.limit, asked.cursor, asked.status)


@router.get("/{job_id}")
def show_job(services: Door, job_id: uuid.UUID, response: Response) -> JobAnswer:
    """Show a job and how far it is; ask again to follow it without events. Its `ETag` is for `PATCH`."""
    return _tagged(services.jobs.show(job_id), response)


@router.patch("/{job_id}", response_model=JobAnswer)
def change_job(
    services: Door,
    job_id: uuid.UUID,
    change: JobChange,
    response: Response,
    if_match: Annotated[str | None, Header(description="`ETag` of the job that the change is meant for")] = None,
) -> JobAnswer | Response:
    """Change the priority of a job that waits; 412 where it is not as `If-Match` says."""
    seen = None if if_match is None or if_match.strip() == "*" else if_match.strip().strip('"')
    try:
        return _tagged(services.jobs.change(job_id, change, seen), response)
    except ChangedMeanwhile as error:
        return answer_problem(error, 412)


@router.get("/{job_id}/request")
def show_request(services: Door, job_id: uuid.UUID) -> JobRequest:
    """Show what a job was asked for by, ready to be submitted again."""
    return services.jobs.find_request(job_id)


@router.post("/{job_id}/clone", status_code=201)
def clone_job(
    services: Door,
    job_id: uuid.UUID,
    response: Response,
    changes: JobClone | None = None,
    idempotency_key: Key = None,
) -> JobAnswer:
    """Submit a job again as a new one, with other settings where they are given."""
    return _created(services.jobs.clone(job_id, changes or JobClone(), idempotency_key), response)


@router.get("/{job_id}/runs")
def list_runs(services: Door, job_id: uuid.UUID, asked: Annotated[RunPaging, Query()]) -> Page[RunAnswer]:
    """List the items of a job in their order, each with its error where it failed."""
    return services.jobs.page_runs(job_id, asked.status, asked.limit, asked.cursor)


@router.post("/{job_id}/cancel")
def cancel_job(services: Door, job_id: uuid.UUID) -> JobAnswer:
    """Stop a job at its next step; what is done stays."""
    return services.jobs.cancel(job_id)


@router.post("/{job_id}/retry")
def retry_job(services: Door, job_id: uuid.UUID, which: RetryRequest | None = None) -> JobAnswer:
    """Run again what failed or was cancelled, and only that; or of it the items that are named."""
    return services.jobs.retry(job_id, which.runs if which else ())


@router.get("/{job_id}/log")
def read_log(services: Door, job_id: uuid.UUID, asked: Annotated[LogPaging, Query()]) -> Page[LogAnswer]:
    """List the lines of a job's log, the oldest first; the `cursor` of any line leads to what follows it."""
    return services.jobs.read_log(job_id, asked.limit, asked.cursor, asked.newest)


@router.get(
    "/{job_id}/log/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, 204: {"description": "Nothing more will come"}},
)
async def follow_log(
    services: Door, job_id: uuid.UUID, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Send each line of a job's log as a server-sent event `line`, from the first or after `Last-Event-ID`."""
    job = await run_in_threadpool(services.jobs.show, job_id)
    page = await run_in_threadpool(services.jobs.read_log, job_id, MAX_PAGE, last_event_id or None)
    if job.status in _ENDED and last_event_id and not page.items:
        return Response(status_code=204)
    return StreamingResponse(_follow_log(services, job, last_event_id or None), media_type="text/event-stream")


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, 204: {"description": "Nothing more will come"}},
)
async def follow_job(
    services: Door, job_id: uuid.UUID, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Send the job as a server-sent event `job` whenever it changes, until it ends.

    A browser's `EventSource` connects again after the end; it is then told by 204 that nothing more will come.
    """
    job = await run_in_threadpool(services.jobs.show, job_id)
    if job.status in _ENDED and last_event_id == describe_version(job):
        return Response(status_code=204)
    return StreamingResponse(_follow(services, job), media_type="text/event-stream")


async def _follow(services: Services, job: JobAnswer) -> AsyncIterator[str]:
    pause = services.settings.poll_s
    seen, silence = "", 0.0
    while True:
        document = job.model_dump_json()
        if document != seen:
            yield f"id: {describe_version(job)}\nevent: job\ndata: {document}\n\n"
            seen, silence = document, 0.0
        elif silence >= _SILENCE_S:
            yield ": still there\n\n"
            silence = 0.0
        if job.status in _ENDED:
            return
        await asyncio.sleep(pause)
        silence += pause
        job = await run_in_threadpool(services.jobs.show, job.id)


async def _follow_log(services: Services, job: JobAnswer, cursor: str | None) -> AsyncIterator[str]:
    pause, silence = services.settings.poll_s, 0.0
    while True:
        # Asked before the log is read: what is written until the end of a job is then in it.
        ended = (await run_in_threadpool(services.jobs.show, job.id)).status in _ENDED
        page = await run_in_threadpool(services.jobs.read_log, job.id, MAX_PAGE, cursor)
        for line in page.items:
            yield f"id: {line.cursor}\nevent: line\ndata: {line.model_dump_json()}\n\n"
            cursor, silence = line.cursor, 0.0
        if page.next_cursor:
            continue
        if ended:
            return
        if silence >= _SILENCE_S:
            yield ": still there\n\n"
            silence = 0.0
        await asyncio.sleep(pause)
        silence += pause


def _tagged(job: JobAnswer, response: Response) -> JobAnswer:
    response.headers["ETag"] = f'"{describe_version(job)}"'
    return job


def _created(job: JobAnswer, response: Response) -> JobAnswer:
    response.headers["Location"] = f"{PREFIX}/jobs/{job.id}"
    return job
