"""Files that go to the server in pieces, by tus 1.0: taken up again where they stopped, by calling once more."""

import base64
import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from voxelight.app.client.connection import Connection, path_of, read_params
from voxelight.app.client.files import Progress, say_nothing
from voxelight.app.client.problems import make_error
from voxelight.app.schemas_uploads import AssignAnswer, AssignRequest, BatchAnswer, Place, UploadAnswer
from voxelight.models.errors import BadInput, Conflict, Unavailable, VoxelightError

PIECE_BYTES = 8 << 20
_TUS = {"Tus-Resumable": "1.0.0"}
_PIECE = "application/offset+octet-stream"
_POLL_S = 0.2
_DAMAGED = 460


class Uploads:
    """Files on their way in.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(
        self,
        file: Path,
        place: Place,
        name: str | None = None,
        batch: uuid.UUID | None = None,
        piece_bytes: int = PIECE_BYTES,
        on_progress: Progress = say_nothing,
    ) -> UploadAnswer:
        """Send a file of any size, and return it once it is checked; within a batch, once it is whole.

        Called again for the same file and place, after a break or in another process, it goes on with the bytes that
        are missing. A file counts as the same by its path, size and time of change.

        Parameters
        ----------
        file : to send
        place : data set, subject and session
        name : by which it is stored; that of the file unless given
        batch : id of what is sent together
        piece_bytes : bytes of a request; each is compared with its sha256 on the other side
        on_progress : called after each piece

        Raises
        ------
        BadInput
            The file can't be used as it is; with what was found in it, and the remedy.
        NotFound, Conflict
            There is no such data set, or its session has a scan of that name.
        Unavailable
            The server does not answer any more; call again to go on.
        """
        upload = self._begin(file, place, name or file.name, batch)
        if (upload.status == "done" and not upload.scans) or upload.status == "refused":
            self.cancel(upload.id)  # of an earlier time, and of no use any more
            upload = self._begin(file, place, name or file.name, batch)
        if upload.status == "open":
            self._append(file, upload, piece_bytes, on_progress)
        return self.wait(upload.id)

    def wait(self, upload_id: uuid.UUID) -> UploadAnswer:
        """Wait until a whole file is checked, or waits for its batch.

        Raises
        ------
        BadInput
            It can't be used as it is.
        Conflict
            Bytes are missing.
        """
        while (upload := self.show(upload_id)).status in ("open", "checking"):
            if upload.status == "open" and upload.offset < upload.size:
                raise Conflict(
                    f"{upload.offset} of {upload.size} bytes of {upload.name}", "a whole file", "Send the rest."
                )
            time.sleep(_POLL_S)
        if upload.status == "refused":
            raise make_error(upload.problems[0].problem)
        return upload

    def show(self, upload_id: uuid.UUID) -> UploadAnswer:
        """Return how far an upload is, and once it is whole what it became."""
        return self._connection.ask(UploadAnswer, "GET", path_of("uploads", upload_id))

    def list(self, dataset: str | None = None) -> Iterator[UploadAnswer]:
        """Go through uploads of the last days, newest first."""
        return self._connection.iterate(UploadAnswer, "/uploads", read_params(dataset=dataset))

    def find_offset(self, upload_id: uuid.UUID) -> int:
        """Return how many bytes of an upload are there."""
        answer = self._connection.send("HEAD", path_of("uploads", upload_id), headers=_TUS)
        return int(answer.headers["Upload-Offset"])

    def find_limit(self) -> int:
        """Return how many bytes a file may have."""
        return int(self._connection.send("OPTIONS", "/uploads").headers["Tus-Max-Size"])

    def cancel(self, upload_id: uuid.UUID) -> None:
        """Forget an upload, whole or not; scans that it became stay."""
        self._connection.send("DELETE", path_of("uploads", upload_id), headers=_TUS)

    def begin_batch(self) -> uuid.UUID:
        """Return an id for files that are sent together: loose DICOM files and archives wait until it is closed."""
        return uuid.UUID(self._connection.send("POST", "/uploads/batches").json()["id"])

    def close_batch(self, batch: uuid.UUID) -> BatchAnswer:
        """Take in what waits in a batch; what could not be used stands in `problems`."""
        return self._connection.ask(BatchAnswer, "POST", path_of("uploads", "batches", batch, "close"))

    def show_batch(self, batch: uuid.UUID) -> BatchAnswer:
        """Return how far the files of a batch are, and what they became."""
        return self._connection.ask(BatchAnswer, "GET", path_of("uploads", "batches", batch))

    def send_batch(self, files: Iterable[Path], place: Place, on_progress: Progress = say_nothing) -> BatchAnswer:
        """Send files that belong together, a DICOM series for one, and take them in; a bad one stops no other."""
        batch = self.begin_batch()
        for file in files:
            with suppress(BadInput):  # stands in the problems of the batch
                self.send(file, place, batch=batch, on_progress=on_progress)
        return self.close_batch(batch)

    def assign(self, request: AssignRequest) -> AssignAnswer:
        """Tell subject and session of files by a pattern of their names; nothing is stored."""
        return self._connection.ask(AssignAnswer, "POST", "/uploads/assign", document=request)

    def _begin(self, file: Path, place: Place, name: str, batch: uuid.UUID | None) -> UploadAnswer:
        size = file.stat().st_size
        told = [("filename", name), *place, ("batch", batch)]
        facts = {key: str(value) for key, value in told if value is not None}
        headers = _TUS | {
            "Upload-Length": str(size),
            "Upload-Metadata": ",".join(f"{key} {_encode(value)}" for key, value in facts.items()),
            "Idempotency-Key": _name_upload(file, facts),
        }
        return self._connection.ask(UploadAnswer, "POST", "/uploads", headers=headers)

    def _append(self, file: Path, upload: UploadAnswer, piece_bytes: int, on_progress: Progress) -> None:
        offset, lost = self.find_offset(upload.id), 0
        with file.open("rb") as source:
            while offset < upload.size:
                source.seek(offset)
                piece = source.read(piece_bytes)
                if not piece:
                    raise BadInput(f"{file}, which became shorter", f"{upload.size} bytes", "Send it again as it is.")
                try:
                    offset = self._send_piece(upload.id, offset, piece)
                    lost = 0
                except VoxelightError as error:
                    lost += 1
                    if lost >= self._connection.tries or not _may_go_on(error):
                        raise
                    time.sleep(_POLL_S * 2**lost)
                    offset = self.find_offset(upload.id)
                on_progress(offset, upload.size)

    def _send_piece(self, upload_id: uuid.UUID, offset: int, piece: bytes) -> int:
        sha256 = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        headers = _TUS | {
            "Content-Type": _PIECE,
            "Upload-Offset": str(offset),
            "Upload-Checksum": f"sha256 {sha256}",
        }
        answer = self._connection.send("PATCH", path_of("uploads", upload_id), content=piece, headers=headers)
        return int(answer.headers["Upload-Offset"])


def _may_go_on(error: VoxelightError) -> bool:
    """Whether what is there may be asked for, to go on behind it: a break, a piece that came twice or damaged."""
    return isinstance(error, Unavailable | Conflict) or getattr(error, "status", None) == _DAMAGED


def _encode(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _name_upload(file: Path, facts: dict[str, str]) -> str:
    """Return the key by which the server knows this file on its way to this place again."""
    found = file.stat()
    told = [
        str(file.resolve()),
        str(found.st_size),
        str(found.st_mtime_ns),
        *sorted(f"{k}={v}" for k, v in facts.items()),
    ]
    return hashlib.sha256("\0".join(map(str, told)).encode()).hexdigest()
