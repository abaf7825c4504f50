"""Results: what came out, filtered and sorted; the address of the page names both."""

from typing import Any

import streamlit as st

from voxelight.app.schemas import ResultQuery
from voxelight.app.ui.filters import ask_query, name_conditions
from voxelight.app.ui.gallery import show_gallery
from voxelight.app.ui.links import link_page
from voxelight.app.ui.marks import show_empty
from voxelight.app.ui.problems import problems_shown
from voxelight.app.web import current_services

PAGE = 24


def find_cursors(query: ResultQuery) -> list[str | None]:
    """Return the pages gone through under this filter; another filter starts anew."""
    place: dict[str, Any] = st.session_state.get("result-pages", {})
    if place.get("query") != query:
        place = st.session_state["result-pages"] = {"query": query, "cursors": [None]}
    cursors: list[str | None] = place["cursors"]
    return cursors


st.title("Results")
services = current_services()
with problems_shown():
    query = ask_query(services)
    cursors = find_cursors(query)
    page = services.results.query(query, limit=PAGE, cursor=cursors[-1])
    conditions = name_conditions(query)
    if page.items:
        link_page("export", "Export what fits", "archive", help="All results of this filter, as files", **conditions)
        show_gallery(services, page.items)
    elif set(conditions) - {"sort"}:
        show_empty(
            "No result fits this filter. Clear a condition, or look at what is still running.",
            "screens/jobs.py",
            "Jobs",
        )
    else:
        show_empty("No result yet. Upload scans, then submit a job.", "screens/jobs.py", "Submit a job")
    if len(cursors) > 1 or page.next_cursor:
        with st.container(horizontal=True, horizontal_alignment="center"):
            if st.button("Before", disabled=len(cursors) == 1, icon=":material/chevron_left:"):
                cursors.pop()
                st.rerun()
            if st.button("After", disabled=page.next_cursor is None, icon=":material/chevron_right:"):
                cursors.append(page.next_cursor)
                st.rerun()
