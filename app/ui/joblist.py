"""Jobs as they go: a card each, renewed while something moves."""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import streamlit as st

from voxelight.app.schemas import PRIORITIES, JobAnswer, Page
from voxelight.app.services import Services
from voxelight.app.ui.marks import mark_random, mark_simulated, show_status
from voxelight.app.ui.notices import watch
from voxelight.app.ui.problems import show_problem
from voxelight.app.ui.wording import ACTIVE, KINDS, plain, say_count, say_pace, say_time
from voxelight.models.errors import VoxelightError

MOVING_S, RESTING_S = 1.0, 5.0
_LISTED = 20


def show_jobs(services: Services) -> None:
    """Show the newest jobs, and go on showing them."""
    moving = any(job.status in ACTIVE for job in services.jobs.list(limit=_LISTED).items)
    st.fragment(_show_page, run_every=MOVING_S if moving else RESTING_S)(services, moving)


def follow(services: Services, job_id: uuid.UUID, show: Callable[[Services, JobAnswer], None], every_s: float) -> None:
    """Show a job, anew every so many seconds while it runs, and in the same place once it has ended."""
    job = services.jobs.show(job_id)
    if job.status in ACTIVE:
        st.fragment(_renew, run_every=every_s)(services, job_id, show)
    else:
        with st.container():  # as a fragment has: what is pressed as the job ends stays in its place
            show(services, job)


def show_head(job: JobAnswer) -> None:
    """Show state, name and data set of a job in one line."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        show_status(job.status)
        st.markdown(f"**{plain(job.recipe)}** on {plain(job.dataset)}", width="content")
        if job.priority:
            st.badge(f"Priority {PRIORITIES[job.priority]}", icon=":material/low_priority:", color="gray")
        mark_simulated(job.simulated)
        mark_random(job.random_weights)


def show_progress(job: JobAnswer) -> None:
    """Show how far a job is."""
    share = (job.done + job.failed) / job.total if job.total else 0.0
    st.progress(min(1.0, share), text=f"{say_count(job)}, {say_pace(job, datetime.now(UTC))}")


def show_actions(services: Services, job: JobAnswer) -> None:
    """Offer what can be done to a job now."""
    if job.status in ACTIVE:
        offer("Cancel", ":material/stop:", services.jobs.cancel, job, help="At its next step; what is done stays.")
    elif job.status in ("failed", "cancelled"):
        offer(
            "Retry",
            ":material/replay:",
            partial(retry, services),
            job,
            help="Only what failed or was cancelled; what is done stays.",
        )
    if st.button("Copy", key=f"copy-{job.id}", icon=":material/content_copy:", help="Submit it with other settings."):
        st.query_params.clear()
        st.query_params["clone"] = str(job.id)
        st.rerun()


def retry(services: Services, job_id: uuid.UUID, run_ids: Sequence[uuid.UUID] = ()) -> JobAnswer:
    """Repeat what is not done, or items of it, and say when that has ended."""
    job = services.jobs.retry(job_id, run_ids)
    watch(job_id)
    return job


def _renew(services: Services, job_id: uuid.UUID, show: Callable[[Services, JobAnswer], None]) -> None:
    job = services.jobs.show(job_id)
    if job.status not in ACTIVE:
        st.rerun()
    show(services, job)


def _show_page(services: Services, moving: bool) -> None:
    cursors: list[str | None] = st.session_state.setdefault("job-cursors", [None])
    page = services.jobs.list(limit=_LISTED, cursor=cursors[-1])
    if not page.items:
        st.caption("No job yet. Choose a recipe and a data set, and submit.")
    for job in page.items:
        _show_card(services, job)
    _offer_pages(page, cursors)
    if len(cursors) == 1 and any(job.status in ACTIVE for job in page.items) != moving:
        st.rerun()  # the whole page, with the pace that now fits


def _show_card(services: Services, job: JobAnswer) -> None:
    with st.container(border=True, key=f"job-{job.id}"):
        show_head(job)
        show_progress(job)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            if st.button("Open", key=f"open-{job.id}", icon=":material/visibility:"):
                st.query_params["job"] = str(job.id)
                st.rerun()
            show_actions(services, job)
            st.caption(f"{KINDS[job.kind]}, submitted {say_time(job.created_at)}", width="content")
        show_refusal(job)


def offer(
    label: str, icon: str, verb: Callable[[uuid.UUID], object], job: JobAnswer, name: str = "", **more: Any
) -> None:
    """Offer a verb of a job; a refusal is shown beside it.

    Parameters
    ----------
    label, icon : of the button
    verb : takes the id of the job
    job : the job
    name : that tells the button from others of this label
    more : of the button
    """

    def act() -> None:
        st.session_state.pop(f"refusal-{job.id}", None)
        try:
            verb(job.id)
        except VoxelightError as error:
            st.session_state[f"refusal-{job.id}"] = error

    st.button(label, key=f"{label}-{name or job.id}", icon=icon, on_click=act, **more)


def show_refusal(job: JobAnswer) -> None:
    """Show why the last verb on a job was refused, if it was; until the next one, since the list runs by itself."""
    error = st.session_state.get(f"refusal-{job.id}")
    if error is not None:
        show_problem(error)


def _offer_pages(page: Page[JobAnswer], cursors: list[str | None]) -> None:
    if len(cursors) == 1 and page.next_cursor is None:
        return
    with st.container(horizontal=True):
        if st.button("Newer", disabled=len(cursors) == 1, icon=":material/chevron_left:"):
            cursors.pop()
            st.rerun()
        if st.button("Older", disabled=page.next_cursor is None, icon=":material/chevron_right:"):
            cursors.append(page.next_cursor)
            st.rerun()
