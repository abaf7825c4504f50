"""Deletion, for good: first what would go, then the same, and nothing that came in between."""

import uuid
from collections.abc import Iterator

from voxelight.app.client.connection import Connection, path_of, read_params
from voxelight.app.client.tagged import Tagged
from voxelight.app.schemas_deletion import DeletionAnswer, DeletionRequest, DeletionTarget, ReceiptAnswer


class Deletion:
    """What is deleted, and its receipts.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def plan(self, target: DeletionTarget) -> Tagged[DeletionAnswer]:
        """Return what would go; nothing does."""
        return self._connection.ask_tagged(DeletionAnswer, "DELETE", _find(target), params={"dry_run": True})

    def delete(
        self, target: DeletionTarget, request: DeletionRequest, planned: Tagged[DeletionAnswer] | None = None
    ) -> DeletionAnswer:
        """Delete it.

        Parameters
        ----------
        target : what is to go
        request : who deletes, why, and in `confirm` its name or id once more
        planned : what `plan` said would go; where that has changed, nothing goes

        Raises
        ------
        BadInput
            `confirm` is another name.
        ChangedMeanwhile
            Something else would go than was planned.
        Conflict
            A job works on it.
        """
        headers = {"If-Match": planned.etag if planned else None}
        return self._connection.ask(
            DeletionAnswer, "DELETE", _find(target), params=read_params(request), headers=headers
        )

    def list_receipts(self) -> Iterator[ReceiptAnswer]:
        """Go through what was deleted, newest first: counts and hashes, never content."""
        return self._connection.iterate(ReceiptAnswer, "/receipts")

    def show_receipt(self, receipt_id: uuid.UUID) -> ReceiptAnswer:
        """Return the receipt of one deletion."""
        return self._connection.ask(ReceiptAnswer, "GET", path_of("receipts", receipt_id))


def _find(target: DeletionTarget) -> str:
    if target.what == "dataset":
        return path_of("datasets", str(target.dataset))
    if target.what == "subject":
        return path_of("datasets", str(target.dataset), "subjects", str(target.subject))
    folder = {"scan": "scans", "job": "jobs", "result": "results"}[target.what]
    return path_of(folder, str(target.id))
