"""The audit log from Python."""

from collections.abc import Iterator

from voxelight.app.client.connection import Connection
from voxelight.app.schemas_audit import AuditAnswer, AuditVerified


class Audit:
    """What was done, by whom; for administrators.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, action: str | None = None, target: str | None = None) -> Iterator[AuditAnswer]:
        """Go through events, newest first.

        Parameters
        ----------
        action : only this one, `delete scan` for one
        target : only this one, `job` and its id for one
        """
        asked = {"action": action, "target": target}
        return self._connection.iterate(AuditAnswer, "/audit", {name: one for name, one in asked.items() if one})

    def verify(self, since: str | None = None) -> AuditVerified:
        """Have every hash computed again.

        Parameters
        ----------
        since : `head` of an earlier answer, which must be there still
        """
        params = {"since": since} if since else None
        return self._connection.ask(AuditVerified, "GET", "/audit/verification", params=params)

    def export(self) -> Iterator[AuditAnswer]:
        """Go through every event, the oldest first."""
        with self._connection.stream("/audit/export") as answer:
            for line in answer.iter_lines():
                yield AuditAnswer.model_validate_json(line)
