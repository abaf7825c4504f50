"""Save searches under a name that can be shared."""

import re
import unicodedata

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from voxelight.app.schemas import Page, ResultQuery
from voxelight.app.schemas_search import SearchAnswer, SearchChange, SearchRequest
from voxelight.app.verbs.results import read_conditions
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage.access import choose_project
from voxelight.storage.queries import read_page
from voxelight.storage.schema import SavedSearch
from voxelight.storage.stores import Stores

_LONGEST = 60


class Searches:
    """Questions about results, each with an address of its own."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def create(self, request: SearchRequest) -> SearchAnswer:
        """Save a search; without a slug one is made from the title.

        Raises
        ------
        BadInput
            The title has no letter to make a slug of, or the query can hold for nothing.
        Conflict
            A search of that slug is there.
        """
        read_conditions(request.query)
        slug = request.slug or make_slug(request.title)
        try:
            with self._stores.sessions.begin() as session:
                query = request.query.model_dump(mode="json", exclude_defaults=True)
                project = choose_project(session, request.project)
                search = SavedSearch(slug=slug, title=request.title, query=query, project=project)
                session.add(search)
                session.flush()
                return _answer(search)
        except IntegrityError:
            raise Conflict(f"a saved search {slug!r}", "a new name", "Change it, or save under another name.") from None

    def list(self, limit: int = 100, cursor: str | None = None) -> Page[SearchAnswer]:
        """Return saved searches, newest first."""
        with self._stores.sessions() as session:
            order = (SavedSearch.created_at, SavedSearch.id)
            rows, following = read_page(session, select(SavedSearch), order, limit, cursor)
            return Page(items=[_answer(row) for row in rows], next_cursor=following)

    def show(self, slug: str) -> SearchAnswer:
        """Return one saved search."""
        with self._stores.sessions() as session:
            return _answer(_find(session, slug))

    def read(self, slug: str) -> ResultQuery:
        """Return the query of a saved search."""
        return self.show(slug).query

    def change(self, slug: str, change: SearchChange, version: int | None = None) -> SearchAnswer:
        """Change title or query, provided that nobody did meanwhile.

        Raises
        ------
        Conflict
            It has another version than the one seen.
        """
        if change.query is not None:
            read_conditions(change.query)
        try:
            with self._stores.sessions.begin() as session:
                search = _find(session, slug)
                _refuse_other(search, version)
                if change.title is not None:
                    search.title = change.title
                if change.query is not None:
                    search.query = change.query.model_dump(mode="json", exclude_defaults=True)
                session.flush()
                return _answer(search)
        except StaleDataError:
            raise _changed(slug) from None

    def delete(self, slug: str, version: int | None = None) -> None:
        """Forget a saved search, provided that nobody changed it meanwhile; results stay.

        Raises
        ------
        Conflict
            It has another version than the one seen.
        """
        try:
            with self._stores.sessions.begin() as session:
                search = _find(session, slug)
                _refuse_other(search, version)
                session.delete(search)
        except StaleDataError:
            raise _changed(slug) from None


def make_slug(title: str) -> str:
    """Return a title as it can stand in an address.

    Raises
    ------
    BadInput
        No letter or digit is left of it.
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST].strip("-")
    if not slug:
        raise BadInput(f"the title {title!r}", "a Latin letter or a digit", "Name the search by a slug of your own.")
    return slug


def _find(session: Session, slug: str) -> SavedSearch:
    search = session.scalar(select(SavedSearch).where(SavedSearch.slug == slug))
    if search is None:
        raise NotFound(f"no saved search {slug!r}", "the slug of one", "List them: GET /api/v1/searches")
    return search


def _refuse_other(search: SavedSearch, version: int | None) -> None:
    if version is not None and search.version != version:
        raise _changed(search.slug)


def _changed(slug: str) -> Conflict:
    return Conflict(
        f"another version of the search {slug!r} by now",
        "the one that you have seen",
        "Read it again and repeat the change on what is there.",
    )


def _answer(search: SavedSearch) -> SearchAnswer:
    return SearchAnswer(
        id=search.id,
        slug=search.slug,
        title=search.title,
        project=search.project,
        query=ResultQuery(**search.query),
        url=f"/results?search={search.slug}",
        created_at=search.created_at,
        version=search.version,
    )
