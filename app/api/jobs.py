"""Jobs over HTTP: submit, follow, cancel, repeat."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from voxelight.app.api.dependencies import PREFIX, Door, Paging
from voxelight.app.schemas import JobAnswer, JobRequest, Page, RunAnswer, Wire
from voxelight.app.services import Services

router = APIRouter(prefix="/jobs", tags=["jobs"])

RunStatus = Literal["pending", "running", "done", "failed", "cancelled"]
_ENDED = ("done", "failed", "cancelled")
_SILENCE_S = 15.0  # proxies close what is silent for longer


class JobPaging(Paging):
    """Which jobs."""

    dataset: str | None = None


class RunFilter(Wire):
    """Which items of a job."""

    status: RunStatus | None = None


@router.post("", status_code=201)
def submit_job(
    services: Door,
    job: JobRequest,
    response: Response,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=200, description="the same key gives the same job, however often")
    ] = None,
) -> JobAnswer:
    """Submit one recipe over many scans."""
    answer = services.jobs.submit(job, idempotency_key)
    response.headers["Location"] = f"{PREFIX}/jobs/{answer.id}"
    return answer


@router.get("")
def list_jobs(services: Door, asked: Annotated[JobPaging, Query()]) -> Page[JobAnswer]:
    """List jobs, newest first."""
    return services.jobs.list(asked.dataset, asked.limit, asked.cursor)


@router.get("/{job_id}")
def show_job(services: Door, job_id: uuid.UUID) -> JobAnswer:
    """Show a job and how far it is; ask again to follow it without events."""
    return services.jobs.show(job_id)


@router.get("/{job_id}/runs")
def list_runs(services: Door, job_id: uuid.UUID, asked: Annotated[RunFilter, Query()]) -> Page[RunAnswer]:
    """List the items of a job in their order, each with its error where it failed."""
    return Page(items=list(services.jobs.list_runs(job_id, asked.status)), next_cursor=None)


@router.post("/{job_id}/cancel")
def cancel_job(services: Door, job_id: uuid.UUID) -> JobAnswer:
    """Stop a job at its next step; what is done stays."""
    return services.jobs.cancel(job_id)


@router.post("/{job_id}/retry")
def retry_job(services: Door, job_id: uuid.UUID) -> JobAnswer:
    """Run again what failed or was cancelled, and only that."""
    return services.jobs.retry(job_id)


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
    if job.status in _ENDED and last_event_id == _mark(job):
        return Response(status_code=204)
    return StreamingResponse(_follow(services, job), media_type="text/event-stream")


async def _follow(services: Services, job: JobAnswer) -> AsyncIterator[str]:
    pause = services.settings.poll_s
    seen, silence = "", 0.0
    while True:
        document = job.model_dump_json()
        if document != seen:
            yield f"id: {_mark(job)}\nevent: job\ndata: {document}\n\n"
            seen, silence = document, 0.0
        elif silence >= _SILENCE_S:
            yield ": still there\n\n"
            silence = 0.0
        if job.status in _ENDED:
            return
        await asyncio.sleep(pause)
        silence += pause
        job = await run_in_threadpool(services.jobs.show, job.id)


def _mark(job: JobAnswer) -> str:
    return f"{job.attempt}-{job.status}-{job.done}-{job.failed}"
