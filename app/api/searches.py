"""Saved searches over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from voxelight.app.api.dependencies import PREFIX, Door, Paging
from voxelight.app.api.etags import IfMatch, IfNoneMatch, answer_changed, answer_tagged, read_version, tag_version
from voxelight.app.schemas import Label, Page
from voxelight.app.schemas_search import SearchAnswer, SearchChange, SearchRequest
from voxelight.models.errors import Conflict

router = APIRouter(prefix="/searches", tags=["searches"])


@router.post("", status_code=201, response_model=SearchAnswer)
def create_search(services: Door, search: SearchRequest) -> Response:
    """Save a search under a name that can be shared."""
    answer = services.searches.create(search)
    tagged = answer_tagged(answer, tag_version(answer.version), status=201)
    tagged.headers["Location"] = f"{PREFIX}/searches/{answer.slug}"
    return tagged


@router.get("")
def list_searches(services: Door, paging: Annotated[Paging, Query()]) -> Page[SearchAnswer]:
    """List saved searches, newest first."""
    return services.searches.list(paging.limit, paging.cursor)


@router.get("/{slug}", response_model=SearchAnswer, responses={304: {"description": "It is still the same"}})
def show_search(services: Door, slug: Label, if_none_match: IfNoneMatch = None) -> Response:
    """Show a saved search; its `ETag` is its version."""
    answer = services.searches.show(slug)
    return answer_tagged(answer, tag_version(answer.version), if_none_match)


@router.patch("/{slug}", response_model=SearchAnswer)
def change_search(services: Door, slug: Label, change: SearchChange, if_match: IfMatch = None) -> Response:
    """Change title or query of a saved search, provided that it still has the version of `If-Match`."""
    try:
        answer = services.searches.change(slug, change, read_version(if_match))
    except Conflict as error:
        return answer_changed(error)
    return answer_tagged(answer, tag_version(answer.version))


@router.delete("/{slug}", status_code=204, response_class=Response)
def delete_search(services: Door, slug: Label, if_match: IfMatch = None) -> Response:
    """Forget a saved search, provided that it still has the version of `If-Match`; results stay."""
    try:
        services.searches.delete(slug, read_version(if_match))
    except Conflict as error:
        return answer_changed(error)
    return Response(status_code=204)
