"""Exports: results as one file to take home."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxelight.app.client.connection import Connection, path_of, read_params
from voxelight.app.client.files import Progress, save_file, say_nothing
from voxelight.app.schemas import ResultQuery
from voxelight.app.schemas_exports import ExportAnswer, ExportFormat, ExportName


class Exports:
    """Results as files.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def plan(
        self, query: ResultQuery | None = None, runs: Sequence[uuid.UUID] = (), search: str | None = None
    ) -> ExportAnswer:
        """Return what an export of these results would hold, format by format.

        Parameters
        ----------
        query : which results, as of `results.query`
        runs : their ids instead
        search : slug of a saved search
        """
        return self._connection.ask(ExportAnswer, "GET", "/exports", params=_choose(query, runs, search))

    def save(
        self,
        name: ExportName,
        place: Path,
        query: ResultQuery | None = None,
        runs: Sequence[uuid.UUID] = (),
        search: str | None = None,
        formats: Sequence[ExportFormat] = (),
        on_progress: Progress = say_nothing,
    ) -> Path:
        """Write an export to a place, whole or not at all, and return the place.

        Parameters
        ----------
        name : `archive.zip`, `report.html`, `report.pdf`, `metrics.csv` or `metrics.parquet`
        place : of the file
        query, runs, search : which results
        formats : of the archive; all unless given
        on_progress : called after each piece

        Raises
        ------
        Refused
            A data set keeps identity in its headers.
        """
        params = _choose(query, runs, search) | ({"format": [*formats]} if formats else {})
        return save_file(self._connection, path_of("exports", name), place, params, on_progress)


def _choose(query: ResultQuery | None, runs: Sequence[uuid.UUID], search: str | None) -> dict[str, Any]:
    return read_params(query, search=search, run=[str(run) for run in runs] or None)
