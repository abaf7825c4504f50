"""Links to files as they cross a door."""

from datetime import datetime

from pydantic import Field

from voxelight.app.schemas import Sent, Wire


class LinkRequest(Sent):
    """Which file, and for how long."""

    path: str = Field(max_length=4000, description="address of the file on this server, with its query")
    seconds: int = Field(300, ge=1, le=3600)


class LinkAnswer(Wire):
    """An address that opens one file without a key, until a time."""

    url: str
    until: datetime
