"""Folders of fMRI betas on the server."""

from collections.abc import Iterator

from voxelight.app.client.connection import Connection, path_of
from voxelight.app.schemas_recordings import (
    LayoutAnswer,
    RecordingIndex,
    RecordingLook,
    RecordingRequest,
    RecordingsAnswer,
)


class Recordings:
    """What lies on the disk of the server, below a folder that it opens (`VOXELIGHT_DATA_ROOTS`).

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_layouts(self) -> Iterator[LayoutAnswer]:
        """Go through the layouts that can be read."""
        return iter(self._connection.ask_page(LayoutAnswer, "/layouts").items)

    def look(self, look: RecordingLook) -> RecordingIndex:
        """Return what a folder holds, from tables and headers alone.

        Raises
        ------
        Refused
            The server doesn't open the folder.
        """
        return self._connection.ask(RecordingIndex, "POST", "/recordings/index", document=look)

    def register(self, dataset: str, request: RecordingRequest) -> RecordingsAnswer:
        """Register subjects of a folder in a data set, one scan each; the files stay where they are."""
        path = path_of("datasets", dataset, "recordings")
        return self._connection.ask(RecordingsAnswer, "POST", path, document=request)
