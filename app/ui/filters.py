"""The filter of the results page: conditions and order, each in the address; saved searches under a name."""

import uuid
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

import streamlit as st

from voxelight.app.schemas import JobKind, ResultQuery, Verdict
from voxelight.app.schemas_search import SearchAnswer, SearchChange, SearchRequest
from voxelight.app.services import Services
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.problems import build, problems_shown
from voxelight.app.ui.wording import KINDS, plain
from voxelight.models.errors import NotFound

LISTED = 500
VERDICTS = {"accept": "Accepted", "reject": "Rejected", "unsure": "Unsure", "none": "Not reviewed"}
ORIGINS = {"true": "Simulated", "false": "Measured"}
ORDERS = {"-time": "Newest first", "time": "Oldest first", "subject": "Subject", "-subject": "Subject, last first"}
_TEXTS = ("subject", "session", "scan", "words")
_CHOICES = ("dataset", "model", "recipe", "kind", "verdict")
_APPLIED = "search-applied"


def ask_query(services: Services) -> ResultQuery:
    """Ask for conditions and order; each stands in the address of the page."""
    search = _apply_search(services)
    with st.container(key="filters"):
        first, last = _ask_first_row(services)
        with st.expander(
            "More conditions", icon=":material/tune:", expanded=_any_set("session", "scan", "metric", "words")
        ):
            scores = _ask_more(services)
    job = ask_job()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        order = _ask_order(scores)
        state = st.session_state
        query = build(
            ResultQuery,
            **{key: state[key] for key in _CHOICES if state[key] is not None},
            **{key: state[key].strip() for key in _TEXTS if state[key].strip()},
            job=job,
            simulated={"true": True, "false": False}.get(state["simulated"] or ""),
            since=start_of(first),
            until=start_of(last + timedelta(days=1)) if last else None,
            metric=_split(state["metric"]),
            sort=order,
        )
        _show_searches(services, query, search)
    if search:
        _show_changes(services, query, search)
    return query


def choose(label: str, key: str, options: list[str], names: dict[str, str], help: str | None = None) -> str | None:
    """Ask for one of several, or any."""
    kept = _take(key, names)
    if kept is not None and kept not in options:
        options = [*options, kept]
    return st.selectbox(
        label,
        options,
        index=None,
        key=key,
        bind="query-params",
        placeholder="Any",
        format_func=lambda name: names.get(name, name),
        help=help,
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


def name_conditions(query: ResultQuery) -> dict[str, Any]:
    """Return what is set, by the names that HTTP and the export have for it."""
    named: dict[str, Any] = query.model_dump(mode="json", exclude_defaults=True)
    return named


def _ask_first_row(services: Services) -> tuple[date | None, date | None]:
    datasets = [dataset.name for dataset in services.datasets.list(limit=LISTED).items]
    models = list(dict.fromkeys(model.name for model in services.results.list_models()))
    columns = st.columns(6)
    with columns[0]:
        choose("Data set", "dataset", datasets, {})
    with columns[1]:
        _ask_text("Subject", "subject", "Label of a subject, as it was uploaded")
    with columns[2]:
        choose("Model", "model", models, {})
    with columns[3]:
        choose("Kind", "kind", list(get_args(JobKind)), KINDS)
    with columns[4]:
        first = st.date_input("From", value=None, key="from", bind="query-params", format="YYYY-MM-DD")
    with columns[5]:
        last = st.date_input("To", value=None, key="to", bind="query-params", format="YYYY-MM-DD")
    return first, last


def _ask_more(services: Services) -> list[str]:
    scores = services.results.list_metrics()
    recipes = [recipe.name for recipe in services.recipes.list()]
    upper, lower = st.columns(4), st.columns([1, 1, 2])
    with upper[0]:
        _ask_text("Session", "session", "Label of a session")
    with upper[1]:
        _ask_text("Scan", "scan", "Name of the file; * stands for any letters: sub-01*")
    with upper[2]:
        choose("Recipe", "recipe", recipes, {})
    with upper[3]:
        _ask_text("Words", "words", "In decoded captions and names of stimuli, each by its beginning: dog bea")
    with lower[0]:
        choose(
            "Review",
            "verdict",
            list(get_args(Verdict)),
            VERDICTS,
            f"What any reader has said. {tell_more('review', 'review')}",
        )
    with lower[1]:
        choose("Data", "simulated", list(ORIGINS), ORIGINS)
    with lower[2]:
        named = f" Scores here: {', '.join(scores)}." if scores else ""
        _ask_text(
            "Scores",
            "metric",
            "Ranges with spaces between: NAME:LOW..HIGH, either end may be left out; NAME[LABEL] for one label."
            f"{named} {tell_more('page', 'results')}",
            "dice:0.8.. volume[anterior]:..2",
        )
    return scores


def _ask_text(label: str, key: str, help: str, placeholder: str = "Any") -> None:
    st.text_input(label, key=key, bind="query-params", placeholder=placeholder, help=help)


def _ask_order(scores: list[str]) -> str:
    names = dict(ORDERS)
    for score in scores:
        names |= {f"-{score}": f"{score}, highest first", score: f"{score}, lowest first"}
    kept = _take("sort", names)
    options = list(names) if kept is None or kept in names else [*names, kept]
    chosen = st.selectbox(
        "Sort by", options, key="sort", bind="query-params", format_func=lambda name: names.get(name, name), width=280
    )
    return chosen or "-time"


def _take(key: str, names: dict[str, str]) -> str | None:
    """Return what is chosen; what the address says holds, in words or as HTTP has it, though nothing has it now."""
    asked = st.query_params.get(key)
    if asked in names:
        st.query_params[key] = names[asked]  # a choice finds itself in the address by its words
        st.rerun()
    if asked and st.session_state.get(key) is None and asked not in names.values():
        st.session_state[key] = asked
    kept: str | None = st.session_state.get(key)
    return kept


def _apply_search(services: Services) -> SearchAnswer | None:
    """Put the conditions of the saved search that the address names into the filter, once."""
    slug = st.query_params.get("search")
    if not slug:
        st.session_state.pop(_APPLIED, None)
        return None
    with problems_shown():
        search = services.searches.show(slug)
        if st.session_state.get(_APPLIED) != slug:
            st.session_state[_APPLIED] = slug
            _set_state(search.query)
        return search
    return None  # type: ignore[unreachable]  # a problem that was shown ends the block


def _set_state(query: ResultQuery) -> None:
    state = st.session_state
    for key in _CHOICES:
        state[key] = getattr(query, key)
    for key in _TEXTS:
        state[key] = getattr(query, key) or ""
    state["simulated"] = None if query.simulated is None else str(query.simulated).lower()
    state["from"] = query.since.date() if query.since else None
    state["to"] = (query.until - timedelta(days=1)).date() if query.until else None
    state["metric"] = " ".join(query.metric)
    state["sort"] = query.sort
    if query.job:
        st.query_params["job"] = str(query.job)


def _show_searches(services: Services, query: ResultQuery, search: SearchAnswer | None) -> None:
    """Offer what is saved, and to save what is asked now."""
    saved = services.searches.list(limit=LISTED).items
    if saved:
        titles = {each.slug: each.title for each in saved}
        st.selectbox(
            "Saved searches",
            list(titles),
            index=list(titles).index(search.slug) if search else None,
            key=f"saved-{search.slug if search else ''}",
            placeholder="Open one",
            format_func=lambda slug: titles[slug],
            on_change=_open,
            args=(f"saved-{search.slug if search else ''}",),
            width=280,
        )
    with st.popover("Save this search", icon=":material/bookmark_add:"):
        _show_form(services, query)


def _open(key: str) -> None:
    slug = st.session_state[key]
    st.query_params.clear()
    st.session_state.pop(_APPLIED, None)
    if slug:
        st.query_params["search"] = slug


def _show_form(services: Services, query: ResultQuery) -> None:
    with st.form("save-search", border=False, clear_on_submit=True):
        title = st.text_input("Title", help="Its address is made of it: /results?search=…")
        if st.form_submit_button("Save", type="primary"):
            with problems_shown():
                answer = services.searches.create(build(SearchRequest, title=title, query=query))
                st.session_state[_APPLIED] = answer.slug
                st.query_params["search"] = answer.slug
                st.rerun()


def _show_changes(services: Services, query: ResultQuery, search: SearchAnswer) -> None:
    """Show the address of a saved search, and let it be changed or forgotten."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{plain(search.title)}**, under the address `{search.url}`", width="content")
        if query != search.query and st.button("Save the changes", icon=":material/save:", type="tertiary"):
            services.searches.change(search.slug, SearchChange(query=query), search.version)
            st.rerun()
        if st.button("Forget this search", icon=":material/bookmark_remove:", type="tertiary", help="The results stay"):
            with suppress(NotFound):  # somebody else was quicker
                services.searches.delete(search.slug, search.version)
            del st.query_params["search"]
            st.rerun()


def _split(ranges: str) -> list[str]:
    """Return ranges that stand with spaces between; a label may hold spaces itself."""
    found: list[str] = []
    for part in ranges.split():
        if found and found[-1].count("[") > found[-1].count("]"):
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def _any_set(*keys: str) -> bool:
    return any(st.session_state.get(key) or st.query_params.get(key) for key in keys)
