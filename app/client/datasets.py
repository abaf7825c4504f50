"""Data sets, their scans, and subjects over time."""

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from voxelight.app.client.connection import Connection, path_of, read_params
from voxelight.app.client.files import Progress, save_file, say_nothing
from voxelight.app.client.tagged import tag_version
from voxelight.app.schemas import DatasetAnswer, DatasetChange, DatasetRequest, ScanAnswer
from voxelight.app.schemas_privacy import Decision, RejectAnswer
from voxelight.app.schemas_reviews import FollowupAnswer, FollowupQuery, SeriesAnswer
from voxelight.app.schemas_uploads import Place
from voxelight.app.schemas_viewer import ViewAnswer

_PIECE_BYTES = 1 << 20


class Datasets:
    """Data sets.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, request: DatasetRequest) -> DatasetAnswer:
        """Add a data set; without consent and purpose it can't be decoded."""
        return self._connection.ask(DatasetAnswer, "POST", "/datasets", document=request)

    def list(self) -> Iterator[DatasetAnswer]:
        """Go through the data sets, newest first."""
        return self._connection.iterate(DatasetAnswer, "/datasets")

    def show(self, name: str) -> DatasetAnswer:
        """Return one data set."""
        return self._connection.ask(DatasetAnswer, "GET", path_of("datasets", name))

    def change(self, name: str, change: DatasetChange, version: int | None = None) -> DatasetAnswer:
        """Change a data set, provided that it still has this version.

        Raises
        ------
        ChangedMeanwhile
            It has another by now.
        """
        headers = {"If-Match": tag_version(version)}
        return self._connection.ask(DatasetAnswer, "PATCH", path_of("datasets", name), document=change, headers=headers)

    def list_series(self, name: str) -> Iterator[SeriesAnswer]:
        """Go through the subjects that can be followed over time."""
        return iter(self._connection.ask_page(SeriesAnswer, path_of("datasets", name, "followup")).items)

    def follow_subject(self, name: str, subject: str, query: FollowupQuery | None = None) -> FollowupAnswer:
        """Follow one subject over its sessions: volumes, changes with their interval, whether they are detectable."""
        path = path_of("datasets", name, "subjects", subject, "followup")
        return self._connection.ask(FollowupAnswer, "GET", path, params=read_params(query))


class Scans:
    """Scans, and those that wait for a person.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, content: Path | bytes | Iterable[bytes], place: Place, name: str | None = None) -> ScanAnswer:
        """Send a file in one request; `uploads.send` is for those that are large, or come over a line that breaks.

        Parameters
        ----------
        content : a file, or its content whole or in pieces
        place : data set, subject and session
        name : by which it is stored; that of the file unless given

        Raises
        ------
        BadInput
            It can't be used as it is, or has no name.
        Conflict
            The session has a scan of that name.
        """
        name = name or (content.name if isinstance(content, Path) else "")
        path = path_of("datasets", place.dataset, "scans", name)
        params = {key: value for key, value in place if key != "dataset" and value is not None}
        body = _read(content) if isinstance(content, Path) else content
        return self._connection.ask(ScanAnswer, "PUT", path, params=params, content=body)

    def list(
        self, dataset: str | None = None, subject: str | None = None, kind: str | None = None
    ) -> Iterator[ScanAnswer]:
        """Go through scans, newest first."""
        return self._connection.iterate(ScanAnswer, "/scans", read_params(dataset=dataset, subject=subject, kind=kind))

    def show(self, scan_id: uuid.UUID) -> ScanAnswer:
        """Return what the intake check found in one scan."""
        return self._connection.ask(ScanAnswer, "GET", path_of("scans", scan_id))

    def view(self, scan_id: uuid.UUID) -> ViewAnswer:
        """Return what the viewer shows of a scan."""
        return self._connection.ask(ViewAnswer, "GET", path_of("scans", scan_id, "view"))

    def read_thumbnail(self, scan_id: uuid.UUID) -> bytes:
        """Return a small picture of a scan, as PNG."""
        return self._connection.send("GET", path_of("scans", scan_id, "thumbnail")).content

    def save(self, scan_id: uuid.UUID, place: Path, on_progress: Progress = say_nothing) -> Path:
        """Write a scan as it is stored to a place, whole or not at all."""
        return save_file(self._connection, path_of("scans", scan_id, "content"), place, None, on_progress)

    def save_image(self, scan_id: uuid.UUID, place: Path, on_progress: Progress = say_nothing) -> Path:
        """Write a scan as NIfTI to a place, whole or not at all; `view` names it, packed (`.nii.gz`) or not."""
        return save_file(self._connection, path_of("scans", scan_id, "image"), place, None, on_progress)

    def list_held(self, dataset: str | None = None) -> Iterator[ScanAnswer]:
        """Go through scans that may show a name in their picture; no job takes them."""
        return self._connection.iterate(ScanAnswer, "/held", read_params(dataset=dataset))

    def release(self, scan_id: uuid.UUID, decision: Decision) -> ScanAnswer:
        """Let jobs take a held scan, once a person has looked at it."""
        return self._connection.ask(ScanAnswer, "POST", path_of("scans", scan_id, "release"), document=decision)

    def preview_face(self, scan_id: uuid.UUID) -> bytes:
        """Return a PNG of a head before and after its face is taken out; nothing is stored."""
        return self._connection.send("GET", path_of("scans", scan_id, "face")).content

    def deface(self, scan_id: uuid.UUID, decision: Decision) -> ScanAnswer:
        """Have a scan stored without its face in place of what it was; held where it can't be taken out."""
        return self._connection.ask(ScanAnswer, "POST", path_of("scans", scan_id, "deface"), document=decision)

    def reject(self, scan_id: uuid.UUID, decision: Decision) -> RejectAnswer:
        """Remove a held scan with everything that is stored of it."""
        return self._connection.ask(RejectAnswer, "POST", path_of("scans", scan_id, "reject"), document=decision)


def _read(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while piece := source.read(_PIECE_BYTES):
            yield piece
