"""Links to files from Python."""

import uuid

from voxelight.app.client.connection import PREFIX, Connection, path_of
from voxelight.app.schemas_links import LinkAnswer, LinkRequest


class Links:
    """Addresses that open one file without a key, for some minutes.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def make(self, path: str, seconds: int = 300) -> LinkAnswer:
        """Sign an address of this server, such as `url` of an artifact.

        Raises
        ------
        BadInput
            It is none of a file.
        """
        return self._connection.ask(LinkAnswer, "POST", "/links", document=LinkRequest(path=path, seconds=seconds))

    def make_for_artifact(self, artifact_id: uuid.UUID, seconds: int = 300) -> LinkAnswer:
        """Return an address that opens one artifact."""
        return self.make(PREFIX + path_of("artifacts", artifact_id), seconds)
