"""Query what came out, and take it home."""

import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.schemas import NUMBER, ArtifactAnswer, ModelAnswer, Page, ResultAnswer, ResultQuery
from voxelight.app.verbs.answers import answer_artifact, answer_model
from voxelight.app.verbs.privacy import refuse_artifacts
from voxelight.app.verbs.result_answers import FIELDS, answer_results, pick_results
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.audit import note
from voxelight.storage.conditions import MetricRange, Wanted
from voxelight.storage.queries import find_row, refuse_limit
from voxelight.storage.schema import Artifact, Model, Run
from voxelight.storage.search import Order, find_results, list_metric_names
from voxelight.storage.stores import Stores
from voxelight.storage.words import split_words

_ALWAYS = "id"


class Results:
    """Label maps and pictures, with their scores and provenance."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def query(self, query: ResultQuery, limit: int = 100, cursor: str | None = None) -> Page[ResultAnswer]:
        """Return results that fit the query, in its order.

        Raises
        ------
        BadInput
            The limit or the cursor is none, or a range is empty.
        """
        with self._stores.sessions() as session:
            ids, following = self._find(session, query, limit, cursor)
            return Page(items=answer_results(session, ids), next_cursor=following)

    def pick(
        self, query: ResultQuery, fields: Sequence[str], limit: int = 100, cursor: str | None = None
    ) -> Page[dict[str, Any]]:
        """Return some fields of the results that fit, and read no more than these need; `id` is always among them.

        Raises
        ------
        BadInput
            A result has no such field, or as `query`.
        """
        unknown = sorted(set(fields) - FIELDS)
        if unknown:
            raise BadInput(f"the field {unknown[0]!r}", f"some of {', '.join(sorted(FIELDS))}", "Correct the name.")
        with self._stores.sessions() as session:
            ids, following = self._find(session, query, limit, cursor)
            chosen = list(dict.fromkeys([_ALWAYS, *fields]))
            return Page(items=pick_results(session, ids, chosen), next_cursor=following)

    def list_metrics(self) -> list[str]:
        """Return the names of all metrics that a result has."""
        with self._stores.sessions() as session:
            return list_metric_names(session)

    def walk(self, query: ResultQuery) -> Iterator[ResultAnswer]:
        """Yield every result that fits the query, page by page."""
        cursor = None
        while True:
            page = self.query(query, cursor=cursor)
            yield from page.items
            if (cursor := page.next_cursor) is None:
                return

    def show(self, run_id: uuid.UUID) -> ResultAnswer:
        """Return one result.

        Raises
        ------
        NotFound
            There is no such run, or it has given nothing yet.
        """
        with self._stores.sessions() as session:
            run = find_row(session, Run, run_id)
            if run.status != "done":
                raise NotFound(f"a run that is {run.status}", "one that is done", "Follow its job until it has ended.")
            return answer_results(session, [run_id])[0]

    def show_artifact(self, artifact_id: uuid.UUID) -> ArtifactAnswer:
        """Return what a file is."""
        with self._stores.sessions() as session:
            return answer_artifact(find_row(session, Artifact, artifact_id))

    def read_range(self, artifact: ArtifactAnswer, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes of a file from start up to stop."""
        return self._stores.blobs.read_range(artifact.sha256, start, stop)

    def read(self, artifact: ArtifactAnswer) -> bytes:
        """Return the whole content of a file."""
        return self._stores.blobs.read(artifact.sha256)

    def export(self, artifacts: list[ArtifactAnswer], folder: Path) -> list[Path]:
        """Write files into a folder under their names, in place of what has the name there.

        Raises
        ------
        Refused
            They belong to a data set that is clinical and local.
        """
        ids = [artifact.id for artifact in artifacts]
        with self._stores.sessions.begin() as session:
            refuse_artifacts(session, ids)
            note(session, "export artifacts", "artifacts", artifacts=[str(artifact) for artifact in ids])
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for artifact in artifacts:
            path = folder / artifact.name
            temporary = path.with_name(f".{path.name}.part")
            with temporary.open("wb") as file:
                for chunk in self.read_range(artifact, 0, artifact.size):
                    file.write(chunk)
            written.append(temporary.replace(path))
        return written

    def list_models(self) -> list[ModelAnswer]:
        """Return every model that has done work here."""
        with self._stores.sessions() as session:
            return [answer_model(row) for row in session.scalars(select(Model).order_by(Model.name, Model.created_at))]

    @staticmethod
    def _find(
        session: Session, query: ResultQuery, limit: int, cursor: str | None
    ) -> tuple[list[uuid.UUID], str | None]:
        refuse_limit(limit)
        wanted = read_conditions(query)
        return find_results(session, wanted, read_order(query.sort, wanted.metrics), limit, cursor)


def read_conditions(query: ResultQuery) -> Wanted:
    """Return the conditions of a query as the stores know them.

    Raises
    ------
    BadInput
        A range is empty, or there is no word.
    """
    conditions = query.model_dump(exclude={"metric", "words", "sort"})
    words = frozenset(split_words(query.words or ""))
    if query.words is not None and not words:
        raise BadInput(f"the words {query.words!r}", "letters or digits", "Type a word, or leave the condition out.")
    return Wanted(**conditions, metrics=tuple(map(_read_range, query.metric)), words=words)


def read_order(sort: str, ranges: Sequence[MetricRange] = ()) -> Order:
    """Return the order that a query names; a run stands by the value within the range that is asked for."""
    name = sort.removeprefix("-")
    descending = name != sort
    if name in ("time", "subject"):
        return Order(name, None, descending)
    metric, label = _read_metric(name)
    asked = next((each for each in ranges if (each.name, each.label) == (metric, label)), MetricRange(metric, label))
    return Order("metric", asked, descending)


def _read_range(text: str) -> MetricRange:
    name, _, between = text.rpartition(":")
    ends = _BETWEEN.fullmatch(between).group("low", "high")  # type: ignore[union-attr]  # the schema has seen to it
    low, high = (float(end) if end else None for end in ends)
    if low is not None and high is not None and low > high:
        raise BadInput(f"the range {between}", "the smaller value first", "Exchange the two.")
    return MetricRange(*_read_metric(name), low, high)


def _read_metric(text: str) -> tuple[str, str | None]:
    name, label = _METRIC.fullmatch(text).groups()  # type: ignore[union-attr]  # the schema has seen to it
    return name, label


_BETWEEN = re.compile(rf"(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})")
_METRIC = re.compile(r"([^\[\]]+)(?:\[([^\[\]]+)\])?")
