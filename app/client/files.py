"""Files that come from the server: streamed beside their place, compared with their hash, then put there."""

import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from voxelight.app.client.connection import Connection, path_of
from voxelight.app.client.problems import say_no_answer
from voxelight.models.errors import Conflict

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and, where it is known, with how many there will be."""
_SHA256 = re.compile(r'"([0-9a-f]{64})"')
_PIECE_BYTES = 1 << 20
_PAUSE_S = 0.5


def say_nothing(_done: int, _total: int | None) -> None:
    """Show no progress."""


class Artifacts:
    """Files that came out of jobs.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def describe(self, artifact_id: uuid.UUID) -> tuple[int, str, str]:
        """Return size in bytes, media type and sha256 of a file."""
        headers = self._connection.send("HEAD", path_of("artifacts", artifact_id)).headers
        return int(headers["Content-Length"]), headers["Content-Type"], headers["ETag"].strip('"')

    def read(self, artifact_id: uuid.UUID, start: int = 0, stop: int | None = None) -> bytes:
        """Return the content of a file, or bytes `start` up to, without it, `stop`.

        Raises
        ------
        BadInput
            The file has no byte there.
        """
        whole = start == 0 and stop is None
        part = None if whole else f"bytes={start}-{'' if stop is None else stop - 1}"
        return self._connection.send("GET", path_of("artifacts", artifact_id), headers={"Range": part}).content

    def save(self, artifact_id: uuid.UUID, place: Path, on_progress: Progress = say_nothing) -> Path:
        """Write a file to a place, whole or not at all, and return the place.

        A connection that breaks is taken up where it broke.

        Raises
        ------
        Conflict
            What came is not what the server has by its hash.
        Unavailable
            The server does not answer any more.
        """
        return save_file(self._connection, path_of("artifacts", artifact_id), place, None, on_progress)


def save_file(
    connection: Connection,
    path: str,
    place: Path,
    params: Mapping[str, Any] | None = None,
    on_progress: Progress = say_nothing,
) -> Path:
    """Write what an address gives to a place, whole or not at all.

    Parameters
    ----------
    connection : to the server
    path, params : the address
    place : of the file; one that is there is replaced
    on_progress : called after each piece

    Raises
    ------
    Conflict
        Its `ETag` is a sha256, and another than that of what came.
    Unavailable
        The server does not answer any more.
    """
    part = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("w+b") as file:
            tag = _receive(connection, path, params, file, on_progress)
            _compare(file, tag)
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return place


def _receive(
    connection: Connection, path: str, params: Mapping[str, Any] | None, file: BinaryIO, on_progress: Progress
) -> str:
    """Write a content to a file; after a break only what is missing is asked for, if it is still the same content."""
    tag, lost = "", 0
    while True:
        here = file.tell()
        headers = {"Range": f"bytes={here}-", "If-Range": tag} if here and tag else {}
        try:
            with connection.stream(path, params, headers) as answer:
                tag = str(answer.headers.get("ETag", ""))
                if answer.status_code != 206:
                    here = file.truncate(file.seek(0))
                length = answer.headers.get("Content-Length")
                total = here + int(length) if length else None
                for piece in answer.iter_bytes():  # as it comes: what is held back would be lost with the line
                    here += file.write(piece)
                    lost = 0
                    on_progress(here, total)
                return tag
        except httpx.TransportError as error:
            lost += 1
            if lost >= connection.tries:
                raise say_no_answer(error, connection.http.base_url) from error
            time.sleep(_PAUSE_S * lost)


def _compare(file: BinaryIO, tag: str) -> None:
    expected = _SHA256.fullmatch(tag)
    if expected is None:
        return
    file.seek(0)
    sha256 = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        sha256.update(piece)
    found = sha256.hexdigest()
    if found != expected[1]:
        raise Conflict(f"a file with the sha256 {found}", expected[1], "Ask for it again; it was damaged on its way.")
