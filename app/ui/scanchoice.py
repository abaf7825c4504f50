"""Which scans a job takes: all that fit, those picked by hand, or those that a query finds."""

import uuid
from collections.abc import Sequence
from typing import Any, Literal

import streamlit as st

from voxelight.app.schemas import DatasetAnswer, ScanQuery
from voxelight.app.schemas_jobs import RecipeCardAnswer, ScanChoice
from voxelight.app.services import Services
from voxelight.app.ui.drafts import Draft
from voxelight.app.ui.marks import mark_simulated
from voxelight.app.ui.wording import DECODING, KINDS, plain, say_many

Way = Literal["all", "picked", "query"]
WAYS: dict[Way, str] = {"all": "All that fit", "picked": "By hand", "query": "By a query"}
_EXAMPLES = 5


def ask_scans(
    services: Services, draft: Draft, recipe: RecipeCardAnswer, dataset: DatasetAnswer
) -> tuple[dict[str, Any] | None, Sequence[ScanChoice]]:
    """Ask which scans to take; return what the request says of them, None for no choice yet, and what it means now."""
    scans = services.recipes.find_scans(recipe.name, dataset.name, ScanQuery())
    _show_holdings(dataset, recipe, scans)
    ways = list(WAYS)
    way = st.segmented_control(
        "Scans",
        ways,
        default=_find_way(draft),
        required=True,
        format_func=WAYS.__getitem__,
        key=draft.key("scans-how"),
        help="By a query: every scan whose subject, session and name fit when the job is submitted.",
    )
    if way == "query":
        query = _ask_query(draft, recipe)
        found = services.recipes.find_scans(recipe.name, dataset.name, query)
        _show_found(found)
        return ({"query": query} if found else None), found
    if way == "picked":
        picked = _pick(draft, recipe, scans)
        return ({"scans": [scan.id for scan in picked]} if picked else None), picked
    return {}, scans


def name_scan(scan: ScanChoice) -> str:
    """Return a scan as a list names it."""
    return f"{scan.name} (subject {scan.subject}, session {scan.session})"


def _find_way(draft: Draft) -> Way:
    if draft.request is None:
        return "all"
    return "query" if draft.request.query else "picked" if draft.request.scans else "all"


def _show_holdings(dataset: DatasetAnswer, recipe: RecipeCardAnswer, scans: Sequence[ScanChoice]) -> None:
    counts = {KINDS[kind]: sum(scan.kind == kind for scan in scans) for kind in recipe.takes}
    found = ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
    with st.container(horizontal=True, vertical_alignment="center"):
        mark_simulated(dataset.simulated)
        st.caption(f"Fits this recipe: {found}." if found else "Holds no file that fits this recipe.")
    held = [scan for scan in scans if scan.held]
    if held:
        st.caption(
            f":material/front_hand: {say_many(len(held), 'scan')} held for a person to look at, on the page Upload; no "
            "job takes them until then."
        )
    if recipe.kind in DECODING and (dataset.consent == "none" or not dataset.purpose.strip()):
        st.warning(
            "This data set names no consent or no purpose, so it can't be decoded. Add both under Consent and purpose "
            "on the page Upload.",
            icon=":material/lock:",
        )


def _ask_query(draft: Draft, recipe: RecipeCardAnswer) -> ScanQuery:
    start = draft.start("query", None) or ScanQuery()
    fields = st.columns(3)
    subject = fields[0].text_input(
        "Subject", start.subject or "", key=draft.key("query-subject"), placeholder="Any", max_chars=120
    )
    session = fields[1].text_input(
        "Session", start.session or "", key=draft.key("query-session"), placeholder="Any", max_chars=120
    )
    name = fields[2].text_input(
        "File name",
        start.name or "",
        key=draft.key("query-name"),
        placeholder="*T1w*",
        max_chars=255,
        help="* stands for any letters, ? for one.",
    )
    kind = start.kind if start.kind in recipe.takes else None
    return ScanQuery(
        subject=subject.strip() or None, session=session.strip() or None, name=name.strip() or None, kind=kind
    )


def _show_found(found: Sequence[ScanChoice]) -> None:
    if not found:
        st.warning("No scan fits this query; widen it.", icon=":material/search_off:")
        return
    names = ", ".join(plain(scan.name) for scan in found[:_EXAMPLES])
    more = f" and {len(found) - _EXAMPLES} more" if len(found) > _EXAMPLES else ""
    st.caption(f"Finds {say_many(len(found), 'scan')}: {names}{more}.")


def _pick(draft: Draft, recipe: RecipeCardAnswer, scans: Sequence[ScanChoice]) -> list[ScanChoice]:
    """Ask for scans; pictures come along with the subject they were shown to."""
    free = {scan.id: scan for scan in scans if not scan.held}
    beside = [scan for scan in free.values() if recipe.kind in DECODING and scan.kind == "picture"]
    choices = [scan.id for scan in free.values() if scan not in beside]
    wanted: list[uuid.UUID] = draft.start("scans", [])
    picked = st.multiselect(
        "Chosen scans",
        choices,
        default=[each for each in wanted if each in choices],
        format_func=lambda each: name_scan(free[each]),
        placeholder="Choose scans",
        key=draft.key("scans"),
        help="Type a part of a name; Select all takes what is listed.",
    )
    if not picked:
        st.caption(":material/info: Choose at least one scan, or take all that fit.")
        return []
    subjects = {free[each].subject for each in picked}
    return [free[each] for each in picked] + [scan for scan in beside if scan.subject in subjects]
