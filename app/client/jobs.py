"""Jobs: submit, follow, wait, cancel, retry, copy; what they can do, and what is asked of them afterwards."""

import time
import uuid
from collections.abc import Iterator, Sequence

from voxelight.app.client.connection import Connection, path_of, read_params
from voxelight.app.client.events import follow_events
from voxelight.app.client.tagged import Tagged
from voxelight.app.schemas import JobAnswer, JobRequest, Priority, RecipeAnswer, RunAnswer, ScanQuery, Sent
from voxelight.app.schemas_exports import (
    ActionAnswer,
    EvaluationRequest,
    MapsEvaluationRequest,
    RelevanceRequest,
)
from voxelight.app.schemas_jobs import JobChange, JobClone, LogAnswer, RecipeCardAnswer, RetryRequest, ScanChoice
from voxelight.app.schemas_training import CurveAnswer

ENDED = ("done", "failed", "cancelled")


class Jobs:
    """Jobs and their items.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def submit(self, request: JobRequest, idempotency_key: str | None = None) -> JobAnswer:
        """Submit one recipe over many scans; sent twice because the line broke, it is one job.

        Parameters
        ----------
        request : what to do
        idempotency_key : the same key gives the same job, however often and from wherever; a new one unless given

        Raises
        ------
        BadInput, NotFound, Refused
            The request can't be carried out; nothing is stored.
        Conflict
            The key belongs to another request.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return self._connection.ask(JobAnswer, "POST", "/jobs", document=request, headers=headers)

    def clone(
        self, job_id: uuid.UUID, changes: JobClone | None = None, idempotency_key: str | None = None
    ) -> JobAnswer:
        """Submit a job again as a new one, with other settings where they are given."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        path = path_of("jobs", job_id, "clone")
        return self._connection.ask(JobAnswer, "POST", path, document=changes or JobClone(), headers=headers)

    def list(self, dataset: str | None = None, status: Sequence[str] = ()) -> Iterator[JobAnswer]:
        """Go through jobs, newest first; `status` names those that are wanted."""
        params = read_params(dataset=dataset, status=[*status] or None)
        return self._connection.iterate(JobAnswer, "/jobs", params)

    def show(self, job_id: uuid.UUID) -> JobAnswer:
        """Return a job and how far it is."""
        return self.show_tagged(job_id).value

    def show_tagged(self, job_id: uuid.UUID) -> Tagged[JobAnswer]:
        """Return a job with the version that `change` can ask for."""
        return self._connection.ask_tagged(JobAnswer, "GET", path_of("jobs", job_id))

    def find_request(self, job_id: uuid.UUID) -> JobRequest:
        """Return what a job was asked for by, ready to be submitted again."""
        return self._connection.ask(JobRequest, "GET", path_of("jobs", job_id, "request"))

    def change(self, job_id: uuid.UUID, priority: Priority, etag: str | None = None) -> JobAnswer:
        """Change the priority of a job that waits, provided that it still has this `ETag`.

        Raises
        ------
        ChangedMeanwhile
            It went on.
        Conflict
            It no longer waits.
        """
        change, headers = JobChange(priority=priority), {"If-Match": etag}
        return self._connection.ask(JobAnswer, "PATCH", path_of("jobs", job_id), document=change, headers=headers)

    def list_runs(self, job_id: uuid.UUID, status: str | None = None) -> Iterator[RunAnswer]:
        """Go through the items of a job in their order, each with its error where it failed."""
        return self._connection.iterate(RunAnswer, path_of("jobs", job_id, "runs"), read_params(status=status))

    def cancel(self, job_id: uuid.UUID) -> JobAnswer:
        """Stop a job at its next step; what is done stays."""
        return self._connection.ask(JobAnswer, "POST", path_of("jobs", job_id, "cancel"))

    def retry(self, job_id: uuid.UUID, runs: Sequence[uuid.UUID] = ()) -> JobAnswer:
        """Run again what failed or was cancelled, and only that; with `runs` only those of it."""
        which = RetryRequest(runs=[*runs])
        return self._connection.ask(JobAnswer, "POST", path_of("jobs", job_id, "retry"), document=which)

    def follow(self, job_id: uuid.UUID, timeout_s: float | None = None) -> Iterator[JobAnswer]:
        """Go through the states of a job as they come, the last one with its end.

        Raises
        ------
        TimeoutError
            It had not ended after `timeout_s`.
        Unavailable
            The server does not answer any more.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for event in follow_events(self._connection, path_of("jobs", job_id, "events")):
            if event.data:
                job = JobAnswer.model_validate_json(event.data)
                yield job
                if job.status in ENDED:
                    return
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"job {job_id} has not ended after {timeout_s:g} s")

    def wait(self, job_id: uuid.UUID, timeout_s: float | None = None) -> JobAnswer:
        """Wait for the end of a job and return it: `done`, `failed` or `cancelled`."""
        for _ in self.follow(job_id, timeout_s):
            pass
        return self.show(job_id)

    def read_log(self, job_id: uuid.UUID, newest: int | None = None) -> Iterator[LogAnswer]:
        """Go through the log of a job, the oldest line first; `newest` lines only where a number is given."""
        path = path_of("jobs", job_id, "log")
        if newest is None:
            return self._connection.iterate(LogAnswer, path)
        return iter(self._connection.ask_page(LogAnswer, path, {"newest": True, "limit": newest}).items)

    def follow_log(self, job_id: uuid.UUID, after: str | None = None) -> Iterator[LogAnswer]:
        """Go through the lines of a log as they come, from the first or after the cursor of one, until the job ends."""
        for event in follow_events(self._connection, path_of("jobs", job_id, "log", "events"), after):
            if event.data:
                yield LogAnswer.model_validate_json(event.data)

    def read_curve(self, job_id: uuid.UUID, since: int = 0) -> Iterator[CurveAnswer]:
        """Go through the curves of a job that trains, item by item, from a step on."""
        return iter(self._connection.ask_page(CurveAnswer, path_of("jobs", job_id, "curve"), {"since": since}).items)

    def evaluate(self, job_id: uuid.UUID, request: EvaluationRequest | None = None) -> ActionAnswer:
        """Have a job that decoded evaluated; asked twice, it is done once."""
        return self._ask_action("POST", job_id, "evaluation", document=request or EvaluationRequest())

    def show_evaluation(self, job_id: uuid.UUID) -> ActionAnswer:
        """Return how far the evaluation of a job is, and its files once it is done."""
        return self._ask_action("GET", job_id, "evaluation")

    def evaluate_maps(self, job_id: uuid.UUID, request: MapsEvaluationRequest | None = None) -> ActionAnswer:
        """Have the label maps of a job scored against references; asked twice, it is done once."""
        return self._ask_action("POST", job_id, "evaluation", "maps", document=request or MapsEvaluationRequest())

    def show_maps_evaluation(self, job_id: uuid.UUID) -> ActionAnswer:
        """Return how far the evaluation of label maps is, and its files once it is done."""
        return self._ask_action("GET", job_id, "evaluation", "maps")

    def map_relevance(self, job_id: uuid.UUID, request: RelevanceRequest | None = None) -> ActionAnswer:
        """Have it mapped where in the brain the decoder of a job looks; asked twice, it is done once."""
        return self._ask_action("POST", job_id, "relevance", document=request or RelevanceRequest())

    def show_relevance(self, job_id: uuid.UUID) -> ActionAnswer:
        """Return how far the relevance maps of a job are, and their files once they are done."""
        return self._ask_action("GET", job_id, "relevance")

    def _ask_action(self, method: str, job_id: uuid.UUID, *what: str, document: Sent | None = None) -> ActionAnswer:
        return self._connection.ask(ActionAnswer, method, path_of("jobs", job_id, *what), document=document)


class Recipes:
    """What a job can do.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> Iterator[RecipeAnswer]:
        """Go through the recipes that a job can name."""
        return iter(self._connection.ask_page(RecipeAnswer, "/recipes").items)

    def show(self, name: str) -> RecipeCardAnswer:
        """Return a recipe with the card of its model, its licence, what an item takes and what to mind."""
        return self._connection.ask(RecipeCardAnswer, "GET", path_of("recipes", name))

    def list_scans(self, name: str, dataset: str, query: ScanQuery | None = None) -> Iterator[ScanChoice]:
        """Go through the scans of a data set that a job of this recipe would choose from."""
        params = read_params(query, dataset=dataset)
        return iter(self._connection.ask_page(ScanChoice, path_of("recipes", name, "scans"), params).items)
