"""Submit, follow, cancel and repeat jobs."""

import re
import uuid
from collections.abc import Sequence

from sqlalchemy import Select, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from voxelight.app.pipelines.inputs import ask_consent_for
from voxelight.app.queue import JobQueue
from voxelight.app.schemas import PRIORITIES, JobAnswer, JobRequest, Page, RecipeAnswer, RunAnswer
from voxelight.app.schemas_jobs import JobChange, JobClone, LogAnswer
from voxelight.app.verbs.job_answers import answer_job, answer_jobs, answer_line, answer_runs
from voxelight.app.verbs.own_models import list_recipes
from voxelight.app.verbs.progress import forget_queues
from voxelight.app.verbs.submission import find_by_key, read_request, say_items, write_job
from voxelight.models.errors import BadInput, Conflict
from voxelight.storage.joblog import add_event, read_events
from voxelight.storage.queries import MAX_PAGE, find_dataset, find_row, read_page, refuse_limit
from voxelight.storage.results import count_runs
from voxelight.storage.schema import Job, Run, utc_now
from voxelight.storage.stores import Stores

_ENDED = ("done", "failed", "cancelled")


class ChangedMeanwhile(Conflict):
    """A job is not as it was seen."""


class Jobs:
    """One recipe over many items, on a durable queue."""

    def __init__(self, stores: Stores, queue: JobQueue) -> None:
        self._stores = stores
        self._queue = queue

    def list_recipes(self) -> list[RecipeAnswer]:
        """Return every recipe that a job can name."""
        return list_recipes(self._stores)

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
                job = find_by_key(session, idempotency_key, request)
                if job is None:
                    job = write_job(session, self._stores, request, idempotency_key)
                    self._queue.enqueue(session, job)
                    session.flush()
                return answer_job(session, job)
        except IntegrityError:
            # Somebody else's submission of the same key won between the look and the write.
            with self._stores.sessions() as session:
                job = find_by_key(session, idempotency_key, request)
                if job is None:
                    raise
                return answer_job(session, job)

    def list(
        self, dataset: str | None = None, limit: int = 100, cursor: str | None = None, status: Sequence[str] = ()
    ) -> Page[JobAnswer]:
        """Return jobs, newest first."""
        with self._stores.sessions() as session:
            query = _select_jobs()
            if dataset:
                query = query.where(Job.dataset_id == find_dataset(session, dataset).id)
            if status:
                query = query.where(Job.status.in_(status))
            rows, following = read_page(session, query, (Job.created_at, Job.id), limit, cursor)
            return Page(items=answer_jobs(session, rows), next_cursor=following)

    def show(self, job_id: uuid.UUID) -> JobAnswer:
        """Return one job."""
        with self._stores.sessions() as session:
            return answer_job(session, find_row(session, Job, job_id, joinedload(Job.dataset), joinedload(Job.model)))

    def find_ended(self, job_ids: Sequence[uuid.UUID]) -> Sequence[JobAnswer]:
        """Return those of some jobs that are over, the first to end first."""
        with self._stores.sessions() as session:
            ended = _select_jobs().where(Job.id.in_(job_ids), Job.status.in_(_ENDED)).order_by(Job.finished_at)
            return answer_jobs(session, session.scalars(ended).all())

    def find_request(self, job_id: uuid.UUID) -> JobRequest:
        """Return what a job was asked for by, ready to be submitted again."""
        with self._stores.sessions() as session:
            return read_request(find_row(session, Job, job_id))

    def page_runs(
        self, job_id: uuid.UUID, status: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[RunAnswer]:
        """Return items of a job in their order.

        Raises
        ------
        BadInput
            The limit or the cursor is none.
        """
        refuse_limit(limit)
        with self._stores.sessions() as session:
            job = find_row(session, Job, job_id)
            query = select(Run).where(Run.job_id == job_id, Run.position >= _read_position(cursor))
            if status:
                query = query.where(Run.status == status)
            query = query.options(joinedload(Run.subject), joinedload(Run.scan))
            rows = session.scalars(query.order_by(Run.position).limit(limit + 1)).all()
            following = f"item-{rows[limit].position}" if len(rows) > limit else None
            return Page(items=answer_runs(session, job, rows[:limit]), next_cursor=following)

    def list_runs(self, job_id: uuid.UUID, status: str | None = None) -> Sequence[RunAnswer]:
        """Return every item of a job in their order."""
        page = self.page_runs(job_id, status, MAX_PAGE)
        found = list(page.items)
        while page.next_cursor:
            page = self.page_runs(job_id, status, MAX_PAGE, page.next_cursor)
            found += page.items
        return found

    def read_log(
        self, job_id: uuid.UUID, limit: int = 100, cursor: str | None = None, newest: bool = False
    ) -> Page[LogAnswer]:
        """Return lines of a job's log, the oldest first; `newest` asks for the last ones instead of the first."""
        with self._stores.sessions() as session:
            find_row(session, Job, job_id)
            rows, more = read_events(session, job_id, limit, cursor, newest)
            lines = [answer_line(row) for row in rows]
            return Page(items=lines, next_cursor=lines[-1].cursor if more and not newest else None)

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
            add_event(session, job.id, f"Cancelled with {job.done} of {job.total} items done.", level="warning")
            self._queue.cancel(session, job)
            session.flush()
            forget_queues(session)
            return answer_job(session, job)

    def retry(self, job_id: uuid.UUID, run_ids: Sequence[uuid.UUID] = ()) -> JobAnswer:
        """Run again what failed or was cancelled, and only that.

        Parameters
        ----------
        job_id : the job, which is over
        run_ids : items to run again; empty: all that are not done

        Raises
        ------
        Conflict
            The job is not over, or everything that is asked for is done.
        Refused
            It decodes, and the data set has no consent or no purpose by now.
        BadInput
            An item is none of this job.
        """
        with self._stores.sessions.begin() as session:
            job = find_row(session, Job, job_id)
            ask_consent_for(job.kind, job.dataset)
            if job.status not in ("failed", "cancelled"):
                raise Conflict(
                    f"a job that is {job.status}", "one that failed or was cancelled", "Nothing is to repeat."
                )
            due = update(Run).where(Run.job_id == job.id, Run.status != "done")
            if run_ids:
                _refuse_items(session, job, run_ids)
                session.execute(due.where(Run.status.in_(("pending", "running"))).values(status="cancelled"))
                due = due.where(Run.id.in_(run_ids))
            fresh = {"status": "pending", "attempts": 0, "error_class": "", "error_message": "", "traceback": ""}
            session.execute(due.values(**fresh, started_at=None, finished_at=None))
            before = job.done
            count_runs(session, job)
            job.status, job.error, job.finished_at = "queued", "", None
            again = len(set(run_ids)) or job.total - before
            self._put_on_queue(session, job, f"Put back on the queue to repeat {say_items(again)}.")
            return answer_job(session, job)

    def clone(self, job_id: uuid.UUID, changes: JobClone, idempotency_key: str | None = None) -> JobAnswer:
        """Submit a job again as a new one, with other settings where they are given.

        Raises
        ------
        BadInput, NotFound, Refused, Conflict
            As `submit`.
        """
        changed = changes.model_dump(exclude_none=True)
        if "scans" in changed:
            changed.setdefault("query", None)
        elif "query" in changed:
            changed["scans"] = []
        kept = self.find_request(job_id).model_dump()
        kinds: dict[str | None, str] = {recipe.name: recipe.kind for recipe in self.list_recipes()}
        kind = kinds.get(changed.get("recipe"), kept["kind"])
        try:
            request = JobRequest(**kept | changed | {"cloned_from": job_id, "kind": kind})
        except ValueError:
            raise BadInput("scans by their ids and by a query", "one of the two", "Leave one of the two out.") from None
        return self.submit(request, idempotency_key)

    def change(self, job_id: uuid.UUID, change: JobChange, seen: str | None = None) -> JobAnswer:
        """Change the priority of a job that waits; it then stands behind those that have this priority already.

        Parameters
        ----------
        job_id, change : the job, and its new priority
        seen : `describe_version` of the job that the change is meant for; None: whatever it is by now

        Raises
        ------
        Conflict
            The job does not wait any more, or is not as it was seen.
        """
        with self._stores.sessions.begin() as session:
            job = find_row(session, Job, job_id)
            session.refresh(job, with_for_update=True)
            answer = answer_job(session, job)
            if seen is not None and seen != describe_version(answer):
                raise ChangedMeanwhile("a job that went on meanwhile", "the version that was seen", "Look at it again.")
            if job.status != "queued":
                raise Conflict(f"a job that is {job.status}", "one that waits", "Its order is past.")
            if job.priority == change.priority:
                return answer
            job.priority = change.priority
            self._put_on_queue(session, job, f"Priority set to {PRIORITIES[job.priority]}.")
            return answer_job(session, job)

    def count_queued(self) -> dict[str, int]:
        """Return how many jobs wait on each queue."""
        with self._stores.sessions() as session:
            waiting = select(Job.queue, func.count()).where(Job.status == "queued").group_by(Job.queue)
            return {"cpu": 0, "gpu": 0} | dict(session.execute(waiting).all())

    def _put_on_queue(self, session: Session, job: Job, message: str) -> None:
        """Begin another attempt, behind those that wait already."""
        job.attempt, job.queued_at = job.attempt + 1, utc_now()
        session.flush()
        self._queue.enqueue(session, job)
        add_event(session, job.id, message)
        session.flush()
        forget_queues(session)


def describe_version(job: JobAnswer) -> str:
    """Return what changes with everything that a job shows."""
    return f"{job.attempt}-{job.status}-{job.done}-{job.failed}"


def _select_jobs() -> Select[Job]:
    return select(Job).options(joinedload(Job.dataset), joinedload(Job.model))


def _read_position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    number = re.fullmatch(r"item-(\d{1,9})", cursor)
    if number is None:
        raise BadInput(f"the cursor {cursor[:40]!r}", "next_cursor of an earlier page", "Start again without a cursor.")
    return int(number[1])


def _refuse_items(session: Session, job: Job, run_ids: Sequence[uuid.UUID]) -> None:
    """Refuse to repeat items that are of another job, or done."""
    found = {run.id: run for run in session.scalars(select(Run).where(Run.id.in_(run_ids), Run.job_id == job.id))}
    for run_id in run_ids:
        if run_id not in found:
            raise BadInput(f"no item {run_id} of this job", "ids of its items", "List the items of the job.")
        if found[run_id].status == "done":
            raise Conflict(
                f"{found[run_id].item_key}, which is done", "items that failed or were cancelled", "Leave it out."
            )
