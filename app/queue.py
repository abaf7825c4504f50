"""Put jobs on the durable queues and take them off, from any process."""

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from voxelight.storage.schema import Action, Job

if TYPE_CHECKING:
    from dbos import DBOSClient

WORKFLOW = "run_job"
ACTION_WORKFLOW = "run_action"
APPLICATION = "voxelight"
# Changes only when the steps of the workflow change; a job that waits is then finished by a worker of its version.
APPLICATION_VERSION = "jobs-1"
_FIRST = 10  # the engine takes the smallest number first, and nothing below 1


class JobQueue:
    """The queues of one installation, which live in its database.

    Parameters
    ----------
    database_url : the database of the results
    """

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url

    @cached_property
    def _client(self) -> "DBOSClient":
        from dbos import DBOSClient, DBOSPortableJSONSerializer

        return DBOSClient(
            system_database_url=self.database_url,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
        )

    def create_tables(self) -> None:
        """Create or migrate the engine's own tables."""
        from dbos import DBOS

        logging.getLogger("dbos").setLevel(logging.WARNING)
        DBOS.migrate(self.database_url)

    def enqueue(self, session: Session, job: Job) -> None:
        """Enqueue a job's present attempt in the caller's transaction: both are there, or neither."""
        self._client.enqueue_in_transaction(
            session,
            {
                "workflow_name": WORKFLOW,
                "queue_name": job.queue,
                "workflow_id": job.workflow_id,
                "app_version": APPLICATION_VERSION,
                "priority": _FIRST - job.priority,
            },
            str(job.id),
        )

    def enqueue_action(self, session: Session, action: Action, queue: str) -> None:
        """Enqueue what was asked of a finished job, in the caller's transaction."""
        self._client.enqueue_in_transaction(
            session,
            {
                "workflow_name": ACTION_WORKFLOW,
                "queue_name": queue,
                "workflow_id": action.workflow_id,
                "app_version": APPLICATION_VERSION,
                "priority": _FIRST - action.job.priority,
            },
            str(action.id),
        )

    def cancel(self, workflow_id: str) -> None:
        """Stop a workflow at its next step, or before its first."""
        self._client.cancel_workflow(workflow_id)

    def close(self) -> None:
        """Give back the connections."""
        if "_client" in self.__dict__:
            self._client.destroy()
