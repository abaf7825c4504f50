"""Put jobs on the durable queues and take them off, from any process."""

import hashlib
import json
import logging

from sqlalchemy.orm import Session

from voxelight.app.costs import find_cost
from voxelight.app.pipelines import find_pipeline
from voxelight.storage.leases import add_entry, withdraw
from voxelight.storage.schema import Action, Job, QueueEntry

WORKFLOW = "run_job"
ACTION_WORKFLOW = "run_action"
APPLICATION = "voxelight"
# Changes only when the steps of the workflow change.
APPLICATION_VERSION = "jobs-2"


class JobQueue:
    """The queues of one installation, which live in its database.

    Parameters
    ----------
    database_url : the database of the results
    """

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url

    def create_tables(self) -> None:
        """Create or migrate the engine's own tables."""
        from dbos import DBOS

        logging.getLogger("dbos").setLevel(logging.WARNING)
        DBOS.migrate(self.database_url)

    def enqueue(self, session: Session, job: Job) -> None:
        """Enqueue a job's present attempt in the caller's transaction, in place of an earlier one."""
        withdraw(session, job.id)
        add_entry(session, _make_entry(job, job.workflow_id, job.queue))

    def enqueue_action(self, session: Session, action: Action, queue: str) -> None:
        """Enqueue what was asked of a finished job, in the caller's transaction."""
        withdraw(session, action.job_id, action.id)
        entry = _make_entry(action.job, action.workflow_id, queue)
        entry.action_id, entry.alike = action.id, ""
        add_entry(session, entry)

    def cancel(self, session: Session, job: Job) -> None:
        """Take a cancelled job off its queue; whoever works on it sees that it was, and ends it."""
        withdraw(session, job.id, waiting_only=True)


def _make_entry(job: Job, workflow_id: str, queue: str) -> QueueEntry:
    cost = find_cost(job.recipe, queue)
    return QueueEntry(
        workflow_id=workflow_id,
        job_id=job.id,
        queue=queue,
        owner=job.owner,
        rank=-job.priority,
        recipe=job.recipe,
        alike=_name_alike(job),
        need_gib=cost.memory_gib if cost else 0.0,
    )


def _name_alike(job: Job) -> str:
    """Name what jobs share whose items may be done in one batch: networks, options, and who may see them."""
    if find_pipeline(job.kind).mix is None:
        return ""
    shared = [job.kind, job.recipe, str(job.model_id), job.dataset.project, job.owner, job.params["options"]]
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
