"""Server-sent events: followed across connections that break, until the server says that nothing more comes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from voxelight.app.client.connection import Connection
from voxelight.app.client.problems import say_no_answer

# The server says every 15 s that it is still there.
_SILENCE_S = 45.0
_PAUSE_S = 0.5
_NOTHING_MORE = 204


@dataclass(frozen=True)
class Event:
    """One event of a stream; an empty one says that the server is still there."""

    id: str
    data: str


def follow_events(connection: Connection, path: str, last: str | None = None) -> Iterator[Event]:
    """Go through the events of a stream, those after `last` first.

    A connection that breaks is made anew behind the last event that came; an answer without events begins the count of
    tries again.

    Raises
    ------
    Unavailable
        The server does not answer any more.
    """
    lost = 0
    while True:
        try:
            with connection.stream(path, headers={"Last-Event-ID": last}, silence_s=_SILENCE_S) as answer:
                if answer.status_code == _NOTHING_MORE:
                    return
                for event in read_events(answer.iter_lines()):
                    lost = 0
                    last = event.id or last
                    yield event
                return
        except httpx.TransportError as error:
            lost += 1
            if lost >= connection.tries:
                raise say_no_answer(error, connection.http.base_url) from error
            time.sleep(_PAUSE_S * lost)


def read_events(lines: Iterator[str]) -> Iterator[Event]:
    """Read the lines of a stream: `id` and `data` of each event, and comments as empty events."""
    name, data = "", []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line.startswith(":"):
            yield Event("", "")
        elif field == "id":
            name = value
        elif field == "data":
            data.append(value)
        elif not line and data:
            yield Event(name, "\n".join(data))
            name, data = "", []
