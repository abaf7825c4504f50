"""Create, list and change data sets."""

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from voxelight.app.schemas import DatasetAnswer, DatasetChange, DatasetRequest, Page
from voxelight.app.verbs.answers import answer_dataset
from voxelight.models.errors import Conflict
from voxelight.storage.access import choose_project
from voxelight.storage.queries import find_dataset, read_page
from voxelight.storage.schema import Dataset
from voxelight.storage.stores import Stores


class Datasets:
    """What was collected, for which purpose and with which consent."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def create(self, request: DatasetRequest) -> DatasetAnswer:
        """Add a data set.

        Raises
        ------
        Conflict
            One of that name is there.
        """
        try:
            with self._stores.sessions.begin() as session:
                project = choose_project(session, request.project)
                dataset = Dataset(**request.model_dump() | {"project": project})
                session.add(dataset)
                session.flush()
                return answer_dataset(session, dataset)
        except IntegrityError:
            raise Conflict(
                f"a data set named {request.name!r}", "a new name", "Use the one that is there, or choose another name."
            ) from None

    def ensure(self, request: DatasetRequest) -> DatasetAnswer:
        """Return the data set of that name, made where it is missing."""
        try:
            return self.create(request)
        except Conflict:
            return self.show(request.name)

    def list(self, limit: int = 100, cursor: str | None = None) -> Page[DatasetAnswer]:
        """Return data sets, newest first."""
        with self._stores.sessions() as session:
            rows, following = read_page(session, select(Dataset), (Dataset.created_at, Dataset.id), limit, cursor)
            return Page(items=[answer_dataset(session, row) for row in rows], next_cursor=following)

    def show(self, name: str) -> DatasetAnswer:
        """Return one data set."""
        with self._stores.sessions() as session:
            return answer_dataset(session, find_dataset(session, name))

    def change(self, name: str, change: DatasetChange, version: int | None = None) -> DatasetAnswer:
        """Change what is set, provided that nobody did meanwhile.

        Parameters
        ----------
        name : of the data set
        change : what to set
        version : the version that the caller has seen; None: whatever there is

        Raises
        ------
        Conflict
            The data set has another version by now.
        """
        with self._stores.sessions.begin() as session:
            dataset = find_dataset(session, name)
            if version is not None and dataset.version != version:
                raise Conflict(
                    f"version {dataset.version} of data set {name!r}",
                    f"version {version}",
                    "Read it again and repeat the change on what is there now.",
                )
            for column, value in change.model_dump(exclude_none=True).items():
                setattr(dataset, column, value)
            try:
                session.flush()
            except StaleDataError:
                raise Conflict(
                    f"another change of data set {name!r} at the same time",
                    "one change at a time",
                    "Read it again and repeat the change on what is there now.",
                ) from None
            return answer_dataset(session, dataset)
