"""Submit, follow, cancel and repeat jobs."""

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from voxelight.app.pipelines import PIPELINES, ModelFacts, find_pipeline
from voxelight.app.queue import JobQueue
from voxelight.app.schemas import JobAnswer, JobRequest, Page, QueueName, RecipeAnswer, RunAnswer
from voxelight.app.verbs.answers import answer_job, answer_run
from voxelight.models.errors import Conflict
from voxelight.storage.queries import find_dataset, find_row, read_page
from voxelight.storage.results import count_runs
from voxelight.storage.schema import Job, Model, Run, utc_now
from voxelight.storage.stores import Stores


class Jobs:
    """One recipe over many items, on a durable queue."""

    def __init__(self, stores: Stores, queue: JobQueue) -> None:
        self._stores = stores
        self._queue = queue

    def list_recipes(self) -> list[RecipeAnswer]:
        """Return every recipe that a job can name."""
        return [recipe for kind in PIPELINES for recipe in find_pipeline(kind).list_recipes()]

    def submit(self, request: JobRequest, idempotency_key: str | None = None) -> JobAnswer:
        """Check a request, then write its job and runs and enqueue it, all in one transaction.

        Parameters
        ----------
        request : what to do
        idempotency_key : the same key gives the same job, however often it is sent

        Raises
        ------
        BadInput, NotFound, Refused
            The request can't be carried out; nothing is stored.
        Conflict
            The key belongs to another request.
        """
        try:
            with self._stores.sessions.begin() as session:
                job = self._find_by_key(session, idempotency_key, request)
                if job is None:
                    job = self._write(session, request, idempotency_key)
                    self._queue.enqueue(session, job)
                return answer_job(session, job)
        except IntegrityError:
            # Somebody else's submission of the same key won between the look and the write.
            with self._stores.sessions() as session:
                job = self._find_by_key(session, idempotency_key, request)
                if job is None:
                    raise
                return answer_job(session, job)

    def list(self, dataset: str | None = None, limit: int = 100, cursor: str | None = None) -> Page[JobAnswer]:
        """Return jobs, newest first."""
        with self._stores.sessions() as session:
            query = select(Job).options(joinedload(Job.dataset), joinedload(Job.model))
            if dataset:
                query = query.where(Job.dataset_id == find_dataset(session, dataset).id)
            rows, following = read_page(session, query, (Job.created_at, Job.id), limit, cursor)
            return Page(items=[answer_job(session, row) for row in rows], next_cursor=following)

    def show(self, job_id: uuid.UUID) -> JobAnswer:
        """Return one job."""
        with self._stores.sessions() as session:
            return answer_job(session, find_row(session, Job, job_id))

    def list_runs(self, job_id: uuid.UUID, status: str | None = None) -> Sequence[RunAnswer]:
        """Return the items of a job in their order."""
        with self._stores.sessions() as session:
            find_row(session, Job, job_id)
            query = select(Run).where(Run.job_id == job_id).order_by(Run.position)
            if status:
                query = query.where(Run.status == status)
            rows = session.scalars(query.options(joinedload(Run.subject), joinedload(Run.scan)))
            return [answer_run(row) for row in rows]

    def cancel(self, job_id: uuid.UUID) -> JobAnswer:
        """Stop a job at its next step; what is done stays.

        Raises
        ------
        Conflict
            The job has ended already.
        """
        with self._stores.sessions.begin() as session:
            job = find_row(session, Job, job_id)
            if job.status in ("done", "failed"):
                raise Conflict(f"a job that is {job.status}", "one that waits or runs", "There is nothing to cancel.")
            job.status, job.finished_at = "cancelled", utc_now()
            session.execute(update(Run).where(Run.job_id == job.id, Run.status == "pending").values(status="cancelled"))
            workflow_id = job.workflow_id
            answer = answer_job(session, job)
        self._queue.cancel(workflow_id)
        return answer

    def retry(self, job_id: uuid.UUID) -> JobAnswer:
        """Run again what failed or was cancelled, and only that.

        Raises
        ------
        Conflict
            The job is not over, or everything is done.
        """
        with self._stores.sessions.begin() as session:
            job = find_row(session, Job, job_id)
            if job.status not in ("failed", "cancelled"):
                raise Conflict(
                    f"a job that is {job.status}", "one that failed or was cancelled", "Nothing is to repeat."
                )
            session.execute(
                update(Run)
                .where(Run.job_id == job.id, Run.status != "done")
                .values(status="pending", attempts=0, error_class="", error_message="", traceback="")
            )
            count_runs(session, job)
            job.status, job.error, job.finished_at, job.attempt = "queued", "", None, job.attempt + 1
            session.flush()
            self._queue.enqueue(session, job)
            return answer_job(session, job)

    def count_queued(self) -> dict[str, int]:
        """Return how many jobs wait on each queue."""
        with self._stores.sessions() as session:
            waiting = select(Job.queue, func.count()).where(Job.status == "queued").group_by(Job.queue)
            return {"cpu": 0, "gpu": 0} | dict(session.execute(waiting).all())

    def _write(self, session: Session, request: JobRequest, key: str | None) -> Job:
        dataset = find_dataset(session, request.dataset)
        plan = find_pipeline(request.kind).plan(session, self._stores, dataset, request)
        job = Job(
            kind=request.kind,
            recipe=request.recipe,
            dataset=dataset,
            model=_find_or_add_model(session, plan.model),
            queue=request.queue or default_queue(),
            idempotency_key=key,
            seed=request.seed,
            params=plan.params | {"options": request.options, "request": request.model_dump(mode="json")},
            total=len(plan.items),
        )
        session.add(job)
        session.flush()
        session.add_all(
            Run(job_id=job.id, item_key=item.key, position=position, scan_id=item.scan_id, subject_id=item.subject_id)
            for position, item in enumerate(plan.items)
        )
        session.flush()
        return job

    @staticmethod
    def _find_by_key(session: Session, key: str | None, request: JobRequest) -> Job | None:
        job = session.scalar(select(Job).where(Job.idempotency_key == key)) if key else None
        if job is not None and job.params["request"] != request.model_dump(mode="json"):
            raise Conflict(
                f"the idempotency key {key!r} on another request", "one key for one request", "Send a new key."
            )
        return job


def default_queue() -> QueueName:
    """Return gpu where this machine has a graphics card, else cpu; without torch, which the doors do not load."""
    has_card = Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
    return "gpu" if has_card else "cpu"


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
