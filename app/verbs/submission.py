"""Write a job down: its plan, its model, its row and one row an item, and the key that it was asked for under."""

import shutil
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from voxelight.app.pipelines import ModelFacts, find_pipeline
from voxelight.app.schemas import JobRequest, QueueName
from voxelight.models.errors import Conflict
from voxelight.storage.joblog import add_event
from voxelight.storage.queries import find_dataset, find_row
from voxelight.storage.schema import Job, Model, Run, utc_now
from voxelight.storage.stores import Stores


def write_job(session: Session, stores: Stores, request: JobRequest, key: str | None) -> Job:
    """Check a request and write its job with its items, in the caller's transaction.

    Raises
    ------
    BadInput, NotFound, Refused
        The request can't be carried out.
    """
    dataset = find_dataset(session, request.dataset)
    if request.cloned_from is not None:
        find_row(session, Job, request.cloned_from)
    plan = find_pipeline(request.kind).plan(session, stores, dataset, request)
    asked = {"options": request.options, "request": request.model_dump(mode="json"), "notes": list(plan.notes)}
    job = Job(
        kind=request.kind,
        recipe=request.recipe,
        dataset=dataset,
        model=_find_or_add_model(session, plan.model),
        queue=request.queue or default_queue(),
        priority=request.priority,
        cloned_from=request.cloned_from,
        queued_at=utc_now(),
        idempotency_key=key,
        seed=request.seed,
        params=plan.params | asked,
        total=len(plan.items),
    )
    session.add(job)
    session.flush()
    session.execute(
        insert(Run),
        [
            {
                "job_id": job.id,
                "item_key": item.key,
                "position": place,
                "scan_id": item.scan_id,
                "subject_id": item.subject_id,
            }
            for place, item in enumerate(plan.items)
        ],
    )
    add_event(session, job.id, f"Submitted with {say_items(job.total)} on queue {job.queue}.")
    for note in plan.notes:
        add_event(session, job.id, note, level="warning")
    return job


def find_by_key(session: Session, key: str | None, request: JobRequest) -> Job | None:
    """Return the job that was submitted under a key.

    Raises
    ------
    Conflict
        The key belongs to another request.
    """
    job = session.scalar(select(Job).where(Job.idempotency_key == key)) if key else None
    if job is not None and read_request(job) != request:
        raise Conflict(f"the idempotency key {key!r} on another request", "one key for one request", "Send a new key.")
    return job


def read_request(job: Job) -> JobRequest:
    """Return what a job was asked for by."""
    return JobRequest(**job.params["request"])


def default_queue() -> QueueName:
    """Return gpu where this machine has a graphics card, else cpu; without torch, which the doors do not load."""
    has_card = Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
    return "gpu" if has_card else "cpu"


def say_items(count: int) -> str:
    """Return a number of items."""
    return f"{count} item{'' if count == 1 else 's'}"


def _find_or_add_model(session: Session, facts: ModelFacts) -> Model:
    model = session.scalar(
        select(Model).where(
            Model.name == facts.name, Model.version == facts.version, Model.weights_sha256 == facts.weights_sha256
        )
    )
    if model is None:
        model = Model(**facts.__dict__)
        session.add(model)
        session.flush()
    return model
