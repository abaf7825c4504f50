"""The viewer within the page: what to show, and the frame that shows it."""

import uuid
from collections.abc import Mapping
from urllib.parse import urlencode

import streamlit as st

from voxelight.app.schemas import ResultQuery
from voxelight.app.schemas_viewer import ViewAnswer
from voxelight.app.services import Services
from voxelight.app.ui.wording import say_time
from voxelight.models.errors import BadInput

FIRST, SECOND = ("result", "scan"), ("other", "otherscan")
_LISTED = 60
_HEIGHT = 880
_PAGE = "/api/v1/pages/viewer"

Choice = tuple[str, uuid.UUID]  # result or scan, and its id


def list_choices(services: Services) -> dict[Choice, str]:
    """Return the newest label maps and images that the viewer can show, in words."""
    found: dict[Choice, str] = {}
    for result in services.results.query(ResultQuery(kind="segment"), limit=_LISTED).items:
        what = f"{result.scan} · {result.recipe} · {result.dataset}, subject {result.subject}"
        found["result", result.id] = f"{what} · {say_time(result.finished_at)}"
    for kind in ("volume", "series"):
        for scan in services.scans.list(kind=kind, limit=_LISTED).items:
            found["scan", scan.id] = f"{scan.name} · scan alone · {scan.dataset}, subject {scan.subject}"
    return found


def read_choice(query: Mapping[str, str], names: tuple[str, str]) -> Choice | None:
    """Read what the address names: a result or a scan.

    Raises
    ------
    BadInput
        It is no id.
    """
    for name, kind in zip(names, FIRST, strict=True):
        if value := query.get(name):
            try:
                return kind, uuid.UUID(value)
            except ValueError:
                raise BadInput(f"{value[:40]!r} as {name}", "the id of a stored one", "Choose it below.") from None
    return None


def view(services: Services, choice: Choice) -> ViewAnswer:
    """Return what the viewer shows of a choice.

    Raises
    ------
    NotFound
        There is none of that id.
    BadInput
        It is no image in space.
    """
    kind, identity = choice
    return services.viewer.view_result(identity) if kind == "result" else services.viewer.view_scan(identity)


def name_parameters(first: Choice, second: Choice | None) -> dict[str, str]:
    """Return the parameters of the address that shows one choice, and another beside it."""
    named = {first[0]: str(first[1])}
    if second:
        named[SECOND[FIRST.index(second[0])]] = str(second[1])
    return named


def show_viewer(title: str, parameters: Mapping[str, str]) -> None:
    """Show the viewer's own page in a frame, with a way to open it alone."""
    address = f"{_PAGE}?{urlencode({**parameters, 'theme': st.context.theme.type or 'light'})}"
    st.iframe(address, height=_HEIGHT, alt=f"Viewer of {title}")
    st.link_button("Open the viewer alone", address, icon=":material/open_in_new:")
