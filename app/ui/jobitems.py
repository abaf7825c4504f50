"""The items of a job, page by page: their state, what they took, why they failed; any of them again."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from voxelight.app.schemas import JobAnswer, Page, RunAnswer
from voxelight.app.services import Services
from voxelight.app.ui.joblist import offer, retry
from voxelight.app.ui.wording import ACTIVE, plain, say_many, say_precisely, say_time

PAGE = 50
STATES = ("pending", "running", "done", "failed", "cancelled")
_AGAIN = ("failed", "cancelled")
_ROW, _HEAD, _ROWS = 35, 38, 10


def show_items(services: Services, job: JobAnswer) -> Sequence[RunAnswer]:
    """Show the items of a job, fifty at a time, and return those."""
    st.subheader("Items")
    state = st.segmented_control(
        "State", STATES, format_func=str.capitalize, key=f"state-{job.id}", label_visibility="collapsed", default=None
    )
    cursors: list[str | None] = st.session_state.setdefault(f"cursors-{job.id}-{state}", [None])
    page = services.jobs.page_runs(job.id, state, PAGE, cursors[-1])
    if not page.items:
        st.caption("No item is in this state.")
        return []
    _show_table(page.items, tall=job.total > _ROWS)
    _offer_pages(job, page, cursors)
    if job.status not in ACTIVE:
        _offer_again(services, job, page.items)
    return page.items


def show_failures(services: Services, job: JobAnswer, runs: Sequence[RunAnswer]) -> None:
    """Show why items failed, each with its traceback."""
    for run in runs:
        if run.error_class:
            _show_failure(services, job, run)


def _show_table(runs: Sequence[RunAnswer], tall: bool) -> None:
    rows = [
        {
            "Item": run.item,
            "State": run.status,
            "Subject": run.subject,
            "Scan": run.scan,
            "Starts": run.attempts,
            "Took": _say(run.seconds),
            "Left": _say_left(run),
            "Error": f"{run.error_class}: {run.error_message}" if run.error_class else "",
            "Finished": say_time(run.finished_at),
        }
        for run in runs
    ]
    # One height from page to page, so that nothing below jumps.
    shown = _ROWS if tall else len(rows)
    st.dataframe(rows, hide_index=True, height=_HEAD + _ROW * shown, alt="Items of the job with their state")


def _say(seconds: float | None) -> str:
    return "–" if seconds is None else say_precisely(seconds)


def _say_left(run: RunAnswer) -> str:
    if run.status not in ("pending", "running"):
        return "–"
    return "no estimate yet" if run.seconds_left is None else f"about {_say(run.seconds_left)}"


def _offer_pages(job: JobAnswer, page: Page[RunAnswer], cursors: list[str | None]) -> None:
    if len(cursors) == 1 and page.next_cursor is None:
        return
    first = (len(cursors) - 1) * PAGE + 1

    def go(cursor: str | None) -> None:
        if cursor is None:
            cursors.pop()
        else:
            cursors.append(cursor)

    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous",
            disabled=len(cursors) == 1,
            icon=":material/chevron_left:",
            on_click=go,
            args=(None,),
            key=f"previous-{job.id}",
        )
        st.button(
            "Next",
            disabled=page.next_cursor is None,
            icon=":material/chevron_right:",
            on_click=go,
            args=(page.next_cursor,),
            key=f"next-{job.id}",
        )
        st.caption(f"Items {first} to {first + len(page.items) - 1}", width="content")


def _offer_again(services: Services, job: JobAnswer, runs: Sequence[RunAnswer]) -> None:
    """Offer to repeat chosen items of this page."""
    again = {run.id: run for run in runs if run.status in _AGAIN}
    if len(again) < 2:
        return  # what can be said of all, or of the one that failed, is said above and below
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Run again only",
            list(again),
            format_func=lambda run_id: again[run_id].item,
            placeholder="Choose items",
            key=f"again-{job.id}",
        )
        offer(
            f"Retry {say_many(len(chosen), 'item')}",
            ":material/replay:",
            partial(retry, services, run_ids=tuple(chosen)),
            job,
            disabled=not chosen,
        )


def _show_failure(services: Services, job: JobAnswer, run: RunAnswer) -> None:
    with st.expander(f"{plain(run.item)} failed: {plain(run.error_class)}", icon=":material/error:"):
        st.markdown(plain(run.error_message))
        if job.status not in ACTIVE:
            offer("Retry this item", ":material/replay:", partial(retry, services, run_ids=(run.id,)), job, str(run.id))
        st.code(run.traceback, language=None)
