"""Likeness: what is stored that is near to words, a picture, a result or a scan."""

from collections.abc import Iterator
from pathlib import Path

from voxelight.app.client.connection import Connection, read_params
from voxelight.app.schemas_vectors import NearConditions, NearRequest, NeighboursAnswer, SpaceAnswer


class Vectors:
    """Search by likeness.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_spaces(self) -> Iterator[SpaceAnswer]:
        """Go through the spaces: what made their vectors, how many there are, what each can be asked by."""
        return iter(self._connection.ask_page(SpaceAnswer, "/vectors/spaces").items)

    def find_near(self, request: NearRequest) -> NeighboursAnswer:
        """Return what is nearest to words, to a result or to a scan; exactly, unless `method` is `graph`."""
        return self._connection.ask(NeighboursAnswer, "POST", "/vectors/near", document=request)

    def find_near_picture(self, picture: Path | bytes, conditions: NearConditions | None = None) -> NeighboursAnswer:
        """Return what is nearest to a picture, PNG or JPEG; nothing of it is kept."""
        content = picture.read_bytes() if isinstance(picture, Path) else picture
        headers = {"Content-Type": "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"}
        params = read_params(conditions)
        path = "/vectors/near/picture"
        return self._connection.ask(NeighboursAnswer, "POST", path, params=params, content=content, headers=headers)
