"""Query what came out, and take it home."""

import uuid
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from voxelight.app.schemas import ArtifactAnswer, ModelAnswer, Page, ResultAnswer, ResultQuery
from voxelight.app.verbs.answers import answer_artifact, answer_model, answer_results
from voxelight.models.errors import NotFound
from voxelight.storage.queries import find_row, read_page, select_results
from voxelight.storage.schema import Artifact, Model, Run
from voxelight.storage.stores import Stores


class Results:
    """Label maps and pictures, with their scores and provenance."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def query(self, query: ResultQuery, limit: int = 100, cursor: str | None = None) -> Page[ResultAnswer]:
        """Return results that fit the query, newest first."""
        with self._stores.sessions() as session:
            rows, following = read_page(
                session, select_results(**query.model_dump()), (Run.finished_at, Run.id), limit, cursor
            )
            return Page(items=answer_results(session, rows), next_cursor=following)

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
            return answer_results(session, [run])[0]

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
        """Write files into a folder under their names, in place of what has the name there."""
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
