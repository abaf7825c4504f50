"""A stored file as a door sends it: what it is, and its bytes when they are asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from voxelight.storage.artifacts import CHUNK_BYTES


@dataclass(frozen=True)
class StoredFile:
    """Content that does not change under its tag.

    Parameters
    ----------
    name, media_type : what a client is told
    size : bytes
    tag : of this content and no other
    read : start, stop -> the bytes from one up to the other, in pieces
    """

    name: str
    media_type: str
    size: int
    tag: str
    read: Callable[[int, int], Iterator[bytes]]


def read_path(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of a file of this machine from start up to stop, in pieces."""
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (chunk := file.read(min(CHUNK_BYTES, stop - start))):
            start += len(chunk)
            yield chunk
