"""Results: by condition and order, in full or in part; compared, corrected, saved as searches."""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from voxelight.app.client.connection import Connection, path_of, read_params
from voxelight.app.client.tagged import Tagged, tag_version
from voxelight.app.schemas import Page, ResultAnswer, ResultQuery
from voxelight.app.schemas_exports import ControlAnswer
from voxelight.app.schemas_search import CompareAnswer, SearchAnswer, SearchChange, SearchRequest, SparseResult
from voxelight.app.schemas_viewer import CorrectionRequest, InterpolationRequest, VersionAnswer, ViewAnswer

_UNCHANGED = 304
_BYTES = {"Content-Type": "application/octet-stream"}


class Results:
    """What runs gave.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def query(self, query: ResultQuery | None = None, search: str | None = None) -> Iterator[ResultAnswer]:
        """Go through results that meet every condition, in the order of the query, page by page.

        Parameters
        ----------
        query : conditions and order; newest first where none is given
        search : slug of a saved search; what is set in `query` takes its place
        """
        return self._connection.iterate(ResultAnswer, "/results", read_params(query, search=search))

    def pick(self, fields: Sequence[str], query: ResultQuery | None = None, search: str | None = None) -> Iterator[Any]:
        """Go through the same with some of their fields only, which is sooner there; `id` is always one."""
        params = read_params(query, search=search, fields=",".join(fields))
        return self._connection.iterate(SparseResult, "/results", params)

    def list_metrics(self) -> Iterator[str]:
        """Go through the names of all metrics that some result has, for conditions and order."""
        return iter(self._connection.ask(Page[str], "GET", "/metrics").items)

    def show(self, run_id: uuid.UUID) -> ResultAnswer:
        """Return what one run gave."""
        return self._connection.ask(ResultAnswer, "GET", path_of("results", run_id))

    def show_tagged(self, run_id: uuid.UUID) -> Tagged[ResultAnswer]:
        """Return what one run gave, with its `ETag`."""
        return self._connection.ask_tagged(ResultAnswer, "GET", path_of("results", run_id))

    def refresh(self, seen: Tagged[ResultAnswer]) -> Tagged[ResultAnswer]:
        """Return a result as it is now; it is sent only where it has changed."""
        headers = {"If-None-Match": seen.etag}
        answer = self._connection.send("GET", path_of("results", seen.value.id), headers=headers)
        if answer.status_code == _UNCHANGED:
            return seen
        return Tagged(ResultAnswer.model_validate_json(answer.content), answer.headers["ETag"])

    def compare_jobs(self, first: uuid.UUID, second: uuid.UUID, limit: int | None = None) -> CompareAnswer:
        """Compare two jobs over what both worked on: paired differences, and the items behind them."""
        return self._compare(read_params(a=first, b=second, limit=limit))

    def compare_models(
        self, first: str, second: str, query: ResultQuery | None = None, limit: int | None = None
    ) -> CompareAnswer:
        """Compare two models over the results that meet the other conditions."""
        return self._compare(read_params(query, model_a=first, model_b=second, limit=limit))

    def view(self, run_id: uuid.UUID) -> ViewAnswer:
        """Return what the viewer shows of a result."""
        return self._connection.ask(ViewAnswer, "GET", path_of("results", run_id, "view"))

    def list_corrections(self, run_id: uuid.UUID) -> Iterator[VersionAnswer]:
        """Go through the label maps of a result: the model's own first, then its corrections, the oldest first."""
        return iter(self._connection.ask_page(VersionAnswer, path_of("results", run_id, "corrections")).items)

    def correct(self, run_id: uuid.UUID, label_map: Path, request: CorrectionRequest) -> VersionAnswer:
        """Store a corrected label map beside its base; what is stored already stays as it is.

        Parameters
        ----------
        run_id : of the result
        label_map : NIfTI on the grid of the base, with its labels
        request : who corrected which one, and why
        """
        path, content = path_of("results", run_id, "corrections"), label_map.read_bytes()
        params = read_params(request)
        return self._connection.ask(VersionAnswer, "POST", path, params=params, content=content, headers=_BYTES)

    def interpolate(self, run_id: uuid.UUID, label_map: Path, request: InterpolationRequest) -> bytes:
        """Return a drawn label map with a label filled in between slices, as packed NIfTI; nothing is stored."""
        path, content = path_of("results", run_id, "interpolation"), label_map.read_bytes()
        params = read_params(request)
        return self._connection.send("POST", path, params=params, content=content, headers=_BYTES).content

    def show_controls(self, run_id: uuid.UUID) -> ControlAnswer:
        """Return what the same decoder made of another stimulus, to be put beside a decoded picture."""
        return self._connection.ask(ControlAnswer, "GET", path_of("results", run_id, "controls"))

    def relink(self, run_id: uuid.UUID, author: str, reason: str, key: str, artifact: uuid.UUID | None = None) -> bytes:
        """Return a label map as DICOM-SEG of the original study: it names the patient.

        Parameters
        ----------
        run_id : of the result
        author, reason : kept in the log of the job
        key : content of `identity.key` of the installation
        artifact : which label map; the newest correction, else the model's own, unless given

        Raises
        ------
        Refused
            The key is another.
        """
        wish = {"author": author, "reason": reason, "key": key, **({"artifact": str(artifact)} if artifact else {})}
        return self._connection.send("POST", path_of("results", run_id, "relink"), document=wish).content

    def _compare(self, params: dict[str, Any]) -> CompareAnswer:
        return self._connection.ask(CompareAnswer, "GET", "/compare", params=params)


class Searches:
    """Searches that were saved under a name.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, request: SearchRequest) -> SearchAnswer:
        """Save a search under a name that can be shared."""
        return self._connection.ask(SearchAnswer, "POST", "/searches", document=request)

    def list(self) -> Iterator[SearchAnswer]:
        """Go through saved searches, newest first."""
        return self._connection.iterate(SearchAnswer, "/searches")

    def show(self, slug: str) -> SearchAnswer:
        """Return a saved search."""
        return self._connection.ask(SearchAnswer, "GET", path_of("searches", slug))

    def change(self, slug: str, change: SearchChange, version: int | None = None) -> SearchAnswer:
        """Change title or query, provided that it still has this version.

        Raises
        ------
        ChangedMeanwhile
            It has another by now.
        """
        headers = {"If-Match": tag_version(version)}
        return self._connection.ask(SearchAnswer, "PATCH", path_of("searches", slug), document=change, headers=headers)

    def delete(self, slug: str, version: int | None = None) -> None:
        """Forget a saved search, provided that it still has this version; results stay."""
        headers = {"If-Match": tag_version(version)}
        self._connection.send("DELETE", path_of("searches", slug), headers=headers)
