"""Files read as plain or gzip streams, in bounded memory."""

import gzip
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from voxelight.models.errors import BadInput
from voxelight.storage.formats.sniff import sniff

_CHUNK = 2**20
DEFLATE_LIMIT = 1032  # no deflate stream expands further (zlib technical details)
_BOMB_BYTES, _BOMB_RATIO = 256 * 2**20, 200  # an empty mask may expand 1000 times, but is small


def refuse_if(fault: bool, found: str, expected: str, remedy: str) -> None:
    """Raise `BadInput` with these words where there is a fault."""
    if fault:
        raise BadInput(found, expected, remedy)


def readable(count: float) -> str:
    """Write a number of bytes as a person would."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def open_stream(path: Path) -> BinaryIO:
    """Open a file for reading, through gzip where its content is gzip."""
    if sniff(path) == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


@contextmanager
def gzip_faults(name: str) -> Iterator[None]:
    """Turn the three ways in which a gzip stream fails into `BadInput`."""
    try:
        yield
    except EOFError as error:
        raise BadInput(
            f"{name}, cut off in the middle of its gzip stream", "the whole file", "Copy it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{name} with a damaged gzip stream ({error})", "an intact file", "Copy it again.") from error


def check_size(path: Path, stored: int, name: str) -> None:
    """Hold what the header claims against the file, by arithmetic alone."""
    length = path.stat().st_size
    packed = sniff(path) == "gzip"
    refuse_if(
        stored > length * (DEFLATE_LIMIT if packed else 1) + (_CHUNK if packed else 0),
        f"{name} of {readable(length)} whose header claims {readable(stored)}",
        "a file that holds what its header claims",
        "The file is cut off or its header damaged: copy it again.",
    )
    refuse_if(
        packed and stored > _BOMB_BYTES and stored > _BOMB_RATIO * length,
        f"{name} of {readable(length)} that would expand {stored // length} times, to {readable(stored)}",
        f"at most {_BOMB_RATIO} times above {readable(_BOMB_BYTES)}",
        "Upload the uncompressed .nii, or store the image in a smaller data type.",
    )


def check_stream(path: Path, stored: int, name: str) -> None:
    """Read a gzip stream once, a chunk at a time, to see that it is whole and no longer than its header says."""
    if sniff(path) != "gzip":
        return
    seen = 0
    with gzip_faults(name), open_stream(path) as stream:
        while chunk := stream.read(_CHUNK):
            seen += len(chunk)
            refuse_if(
                seen > stored + _CHUNK,
                f"{name} that expands beyond the {readable(stored)} which its header claims",
                "a stream as long as its header says",
                "The file is damaged or made to exhaust memory: make it again from its source.",
            )
    refuse_if(
        seen < stored,
        f"{name} with {readable(seen)} of the {readable(stored)} which its header claims",
        "the whole file",
        "Copy it again.",
    )


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write to a temporary name beside `path` that takes its place at the end; a failure leaves nothing behind."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
