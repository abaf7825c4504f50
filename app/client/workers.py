"""Workers and queues of a server."""

from collections.abc import Sequence

from voxelight.app.client.connection import Connection
from voxelight.app.schemas_workers import QueueAnswer, WorkerAnswer


class Workers:
    """Who works, and what waits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, alive: bool = False) -> Sequence[WorkerAnswer]:
        """Return the workers by name; those that are gone for a day, unless only the living are asked for."""
        return self._connection.ask_page(WorkerAnswer, "/workers", {"alive": alive}).items

    def queues(self) -> Sequence[QueueAnswer]:
        """Return how much waits on each queue, and for how long."""
        return self._connection.ask_page(QueueAnswer, "/queues").items
