"""First steps: from an empty installation to a segmented MRI and decoded pictures, with data that come along."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from voxelight.app.demo import PREFIX, TEMPLATE_DATASET, ask_decoding, ask_segmentation
from voxelight.app.schemas import JobAnswer, JobRequest
from voxelight.app.services import Services
from voxelight.app.ui.joblist import show_progress
from voxelight.app.ui.links import link_page, tell_more
from voxelight.app.ui.marks import mark_simulated, note_decoding, show_status
from voxelight.app.ui.notices import LOOK_S, watch
from voxelight.app.ui.problems import show_problem
from voxelight.app.ui.wording import ACTIVE
from voxelight.models.errors import VoxelightError

Wish = Literal["on", "away"]
_COOKIE, _YEAR_S = "vx-tour", 365 * 24 * 3600
_LISTED = 100


@dataclass(frozen=True)
class Step:
    """One thing to try: what it is about, how its job is asked for, and where the result is looked at."""

    title: str
    about: str
    label: str
    ask: Callable[[Services], JobRequest]
    page: str
    look: str


SEGMENT = Step(
    "1. Segment an MRI",
    "Both hippocampi of the T1 template that nilearn ships: an average of 152 people, so no true segmentation exists.",
    "Segment the sample",
    ask_segmentation,
    "viewer",
    "Look at the label map",
)
DECODE = Step(
    "2. Decode brain activity",
    "A subject simulated from photographs: nobody was scanned. Every picture is decoded by a model that never saw it.",
    "Decode the sample",
    ask_decoding,
    "results",
    "See what was decoded",
)


def show_tour(services: Services) -> None:
    """Show the first steps where nothing but samples is stored, or where somebody asked for them."""
    _remember()
    names = [dataset.name for dataset in services.datasets.list(limit=_LISTED).items]
    wish = st.session_state.get("tour") or st.context.cookies.get(_COOKIE)
    if wish == "away" or (wish != "on" and any(not name.startswith(PREFIX) for name in names)):
        return
    moving = any(job.status in ACTIVE for job in _list_jobs(services))
    st.fragment(_show, run_every=LOOK_S if moving else None)(services, moving)


def bring_back() -> None:
    """Show the first steps again, whatever is stored."""
    st.session_state.update({"tour": "on", "tour-said": False})


def _put_away() -> None:
    st.session_state.update({"tour": "away", "tour-said": False})


def _remember() -> None:
    """Let the browser keep what a person last said about the tour."""
    if st.session_state.get("tour-said") is False:
        cookie = f"{_COOKIE}={st.session_state['tour']}; path=/; max-age={_YEAR_S}; SameSite=Lax"
        st.html(f"<script>document.cookie = {cookie!r};</script>", unsafe_allow_javascript=True)
        st.session_state["tour-said"] = True


def _list_jobs(services: Services) -> list[JobAnswer]:
    """Return the newest job of every data set of samples."""
    names = [dataset.name for dataset in services.datasets.list(limit=_LISTED).items]
    return [job for name in names if name.startswith(PREFIX) for job in services.jobs.list(name, limit=1).items]


def _show(services: Services, moved: bool) -> None:
    jobs = _list_jobs(services)
    if moved != any(job.status in ACTIVE for job in jobs):
        st.rerun()  # looks again only while something moves
    with st.container(border=True, key="tour"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.subheader("First steps", anchor=False, width="content")
            if st.button("Put the tour away", icon=":material/close:", type="tertiary"):
                _put_away()
                st.rerun()  # the whole page, of which this is a part
        first, second, third = st.columns(3)
        segmented = next((job for job in jobs if job.dataset == TEMPLATE_DATASET), None)
        with first:
            _show_step(services, SEGMENT, segmented)
        with second:
            _show_step(services, DECODE, next((job for job in jobs if job.simulated), None))
        with third:
            st.markdown("**3. Bring your own**")
            st.caption("Make a data set and drop your files below: MRI, CT, DICOM, betas. They stay on this machine.")
            st.markdown(tell_more("uploads", name="What is taken"))
            st.markdown(tell_more("page", "first-steps", "About these steps"))


def _show_step(services: Services, step: Step, job: JobAnswer | None) -> None:
    st.markdown(f"**{step.title}**")
    st.caption(step.about)
    if job is None:
        _offer(services, step)
        return
    with st.container(horizontal=True, gap="small"):
        show_status(job.status)
        mark_simulated(job.simulated)
    show_progress(job)
    if job.done and job.status == "done":
        about = {"job": str(job.id)}
        if step.page == "viewer":
            about = {"result": str(next(run.id for run in services.jobs.list_runs(job.id) if run.status == "done"))}
        link_page(step.page, step.look, "visibility", **about)
        if step is DECODE:
            note_decoding(job.random_weights)
    else:
        link_page("jobs", "Follow its job", "play_circle", job=str(job.id))


def _offer(services: Services, step: Step) -> None:
    """Offer a sample; a click is remembered first, so that no other run of the page loses it."""
    state, wanted, refused = st.session_state, f"tour-wanted-{step.label}", f"tour-refused-{step.label}"
    busy = wanted in state
    st.button(step.label, type="primary", icon=":material/play_arrow:", disabled=busy, on_click=_want, args=(wanted,))
    if busy:
        with st.spinner("Taking the sample in"):
            state.pop(refused, None)
            try:
                watch(services.jobs.submit(step.ask(services), state[wanted]).id)
            except VoxelightError as error:
                state[refused] = error
            state.pop(wanted, None)
        st.rerun()
    if refused in state:
        show_problem(state[refused])


def _want(key: str) -> None:
    """Remember a click under a key of its own: what is submitted twice under one key is one job."""
    st.session_state.setdefault(key, str(uuid.uuid4()))
