"""The client: one connection, and what can be asked over it."""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import httpx

from voxelight.app.client.access import Access
from voxelight.app.client.audit import Audit
from voxelight.app.client.connection import Connection
from voxelight.app.client.datasets import Datasets, Scans
from voxelight.app.client.deletion import Deletion
from voxelight.app.client.exports import Exports
from voxelight.app.client.files import Artifacts
from voxelight.app.client.jobs import Jobs, Recipes
from voxelight.app.client.links import Links
from voxelight.app.client.recordings import Recordings
from voxelight.app.client.results import Results, Searches
from voxelight.app.client.reviews import Reviews
from voxelight.app.client.uploads import Uploads
from voxelight.app.client.vectors import Vectors
from voxelight.app.client.workers import Workers
from voxelight.app.schemas import HealthAnswer, ModelAnswer

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class Client:
    """A Voxelight server, as Python sees it.

    Requests and answers are the models of `voxelight.app.schemas`. A refusal is the exception that it is everywhere:
    `BadInput`, `NotFound`, `Conflict`, `Refused` or `Unavailable` of `voxelight.models.errors`, with `found`,
    `expected` and `remedy`; `ChangedMeanwhile` where somebody was faster.

    Parameters
    ----------
    url : of the server, without `/api`
    http : a client of httpx with this address, to set headers, certificates or a proxy; whoever made it closes it
    tries : how often what may be repeated is asked for before the server counts as unavailable
    key : of the API, where the server asks who is there; left out, that of the environment, `VOXELIGHT_API_KEY`

    Examples
    --------
    >>> with Client("http://127.0.0.1:8501") as client:  # doctest: +SKIP
    ...     client.check_health().status
    'ok'
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8501",
        http: httpx.Client | None = None,
        tries: int = 3,
        key: str | None = None,
    ) -> None:
        self._own = http is None
        self._http = http or httpx.Client(base_url=url, timeout=_TIMEOUT)
        self._connection = connection = Connection(
            self._http, tries, os.environ.get("VOXELIGHT_API_KEY", "") if key is None else key
        )
        self.access = Access(connection)
        self.datasets = Datasets(connection)
        self.scans = Scans(connection)
        self.uploads = Uploads(connection)
        self.recordings = Recordings(connection)
        self.recipes = Recipes(connection)
        self.jobs = Jobs(connection)
        self.results = Results(connection)
        self.searches = Searches(connection)
        self.artifacts = Artifacts(connection)
        self.reviews = Reviews(connection)
        self.vectors = Vectors(connection)
        self.exports = Exports(connection)
        self.audit = Audit(connection)
        self.links = Links(connection)
        self.deletion = Deletion(connection)
        self.workers = Workers(connection)

    def check_health(self) -> HealthAnswer:
        """Return version and database of the server, and what waits on its queues."""
        return self._connection.ask(HealthAnswer, "GET", "/health")

    def list_models(self) -> Iterator[ModelAnswer]:
        """Go through the models that have done work, each with the hash of its weights."""
        return iter(self._connection.ask_page(ModelAnswer, "/models").items)

    def close(self) -> None:
        """Give the connection back, unless it was handed in."""
        if self._own:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
