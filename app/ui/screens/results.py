"""Results: what came out, filtered; the address of the page names the filter."""

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

import streamlit as st

from voxelight.app.schemas import JobKind, ResultQuery
from voxelight.app.services import Services
from voxelight.app.ui.gallery import show_gallery
from voxelight.app.ui.marks import show_empty
from voxelight.app.ui.problems import build, problems_shown
from voxelight.app.ui.wording import KINDS
from voxelight.app.web import current_services

PAGE = 24
LISTED = 500


def ask_filter(services: Services) -> ResultQuery:
    """Ask for conditions; each stands in the address of the page."""
    datasets = [dataset.name for dataset in services.datasets.list(limit=LISTED).items]
    models = list(dict.fromkeys(model.name for model in services.results.list_models()))
    columns = st.columns(6)
    with columns[0]:
        dataset = choose("Data set", "dataset", datasets)
    with columns[1]:
        subject = st.text_input("Subject", key="subject", bind="query-params", placeholder="Any").strip()
    with columns[2]:
        model = choose("Model", "model", models)
    with columns[3]:
        kind = choose("Kind", "kind", list(get_args(JobKind)))
    with columns[4]:
        first = st.date_input("From", value=None, key="from", bind="query-params", format="YYYY-MM-DD")
    with columns[5]:
        last = st.date_input("To", value=None, key="to", bind="query-params", format="YYYY-MM-DD")
    return build(
        ResultQuery,
        dataset=dataset,
        subject=subject or None,
        model=model,
        kind=kind,
        job=ask_job(),
        since=start_of(first),
        until=start_of(last + timedelta(days=1)) if last else None,
    )


def choose(label: str, key: str, options: list[str]) -> str | None:
    """Ask for one of several, or any."""
    return st.selectbox(
        label,
        options,
        index=None,
        key=key,
        bind="query-params",
        placeholder="Any",
        format_func=lambda name: KINDS.get(name, name),
    )


def ask_job() -> uuid.UUID | None:
    """Return the job that the address names, with a way out of it."""
    name = st.query_params.get("job")
    if not name:
        return None
    if st.button(f"Only job {name[:8]}: show all", icon=":material/close:", type="tertiary"):
        del st.query_params["job"]
        st.rerun()
    try:
        return uuid.UUID(name)
    except ValueError:
        return uuid.UUID(int=0)  # nothing has it


def start_of(day: date | None) -> datetime | None:
    """Return the first moment of a day in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None


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
    query = ask_filter(services)
    cursors = find_cursors(query)
    page = services.results.query(query, limit=PAGE, cursor=cursors[-1])
    if page.items:
        show_gallery(services, page.items)
    elif any(value is not None for value in query.model_dump().values()):
        show_empty(
            "No result fits this filter. Clear a condition, or look at what is still running.",
            "screens/jobs.py",
            "Jobs",
        )
    else:
        show_empty("No result yet. Upload scans, then submit a job.", "screens/jobs.py", "Submit a job")
    if len(cursors) > 1 or page.next_cursor:
        with st.container(horizontal=True, horizontal_alignment="center"):
            if st.button("Newer", disabled=len(cursors) == 1, icon=":material/chevron_left:"):
                cursors.pop()
                st.rerun()
            if st.button("Older", disabled=page.next_cursor is None, icon=":material/chevron_right:"):
                cursors.append(page.next_cursor)
                st.rerun()
