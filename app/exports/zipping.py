"""A ZIP archive as a stream: a member is compressed while it is read, and nothing waits in memory or on disk."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from voxelight.app.exports.entries import Member

MEDIA_TYPE = "application/zip"
_PACKED = (".gz", ".png", ".jpg", ".zip", ".parquet", ".pdf")
_WORTH_SENDING = 1 << 18  # bytes


def stream_zip(members: Iterable[Member], now: datetime | None = None) -> Iterator[bytes]:
    """Yield the bytes of an archive; sizes follow each member, so that none need be known before.

    Parameters
    ----------
    members : in order, no path twice
    now : time of the members
    """
    pipe = _Pipe()
    stamp = (now or datetime.now(UTC)).timetuple()[:6]
    with zipfile.ZipFile(pipe, "w") as archive:
        for member in members:
            info = zipfile.ZipInfo(member.path, stamp)
            packed = member.path.endswith(_PACKED)
            info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as file:
                for piece in member.content:
                    file.write(piece)
                    if pipe.waiting >= _WORTH_SENDING:
                        yield pipe.take()
    yield pipe.take()


class _Pipe(io.RawIOBase):
    """Where the archive writes to, and the stream takes from."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self.waiting = 0

    def writable(self) -> bool:
        """Say so."""
        return True

    def write(self, piece: bytes) -> int:  # type: ignore[override]  # the archive writes bytes
        """Keep a piece until it is taken."""
        self._pieces.append(bytes(piece))
        self.waiting += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """Return what waits."""
        whole = b"".join(self._pieces)
        self._pieces.clear()
        self.waiting = 0
        return whole
