"""Write a job down: its plan, its model, its row and one row an item, and the key that it was asked for under."""

import shutil
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from voxelight.app.logs import find_fact
from voxelight.app.pipelines import ModelFacts, find_pipeline
from voxelight.app.schemas import JobRequest, QueueName
from voxelight.app.traces import find_parent
from voxelight.app.verbs.own_models import hiding
from voxelight.models.errors import Conflict
from voxelight.storage.access import find_principal, own_key, seeing_everything
from voxelight.storage.joblog import add_event
from voxelight.storage.queries import find_dataset, find_row
from voxelight.storage.schema import Job, Model, Run, utc_now
from voxelight.storage.stores import Stores, add_unless_there


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
    principal = find_principal(session)
    with hiding(session, stores, request):
        plan = find_pipeline(request.kind).plan(session, stores, dataset, request)
    asked = {"options": request.options, "request": request.model_dump(mode="json"), "notes": list(plan.notes)}
    job = Job(
        kind=request.kind,
        recipe=request.recipe,
        dataset=dataset,
        model=_find_or_add_model(session, plan.model),
        owner=principal.name if principal else "",
        queue=request.queue or default_queue(),
        priority=request.priority,
        cloned_from=request.cloned_from,
        queued_at=utc_now(),
        idempotency_key=own_key(session, key),
        seed=request.seed,
        params=plan.params | asked | _find_origin(),
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
    job = session.scalar(select(Job).where(Job.idempotency_key == own_key(session, key))) if key else None
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


def _find_origin() -> dict[str, dict[str, str]]:
    """Return which request asked, so that logs and traces of the work can name it; nothing outside of one."""
    origin = {"request": find_fact("request"), "trace": find_parent()}
    return {"origin": origin} if any(origin.values()) else {}


def _find_or_add_model(session: Session, facts: ModelFacts) -> Model:
    same = (Model.name == facts.name, Model.version == facts.version, Model.weights_sha256 == facts.weights_sha256)
    with seeing_everything(session):  # one row for all projects
        model = session.scalar(select(Model).where(*same))
        if model is None:
            add_unless_there(session, Model, **facts.__dict__)  # by whoever submits first, of several at once
            model = session.scalars(select(Model).where(*same)).one()
    return model
