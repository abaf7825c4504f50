"""Say on any page that a job has ended, if it was asked for from here."""

import uuid

import streamlit as st

from voxelight.app.schemas import JobAnswer
from voxelight.app.services import Services
from voxelight.app.ui.wording import plain, say_count

LOOK_S = 2.0
_PAGE, _HEIGHT = "/api/v1/pages/notify", 60
_ICONS = {"done": ":material/check_circle:", "failed": ":material/error:", "cancelled": ":material/cancel:"}


def watch(job_id: uuid.UUID) -> None:
    """Remember a job, to say when it has ended."""
    st.session_state.setdefault("watched", set()).add(job_id)


def show_notices(services: Services) -> None:
    """Say which of the jobs that were asked for from here have ended, now and while the page is open."""
    if st.session_state.get("watched"):
        st.fragment(_look, run_every=LOOK_S)(services)


def offer_notifications() -> None:
    """Offer notifications of the browser, which reach a person who looks at something else."""
    theme = st.context.theme.type or "light"
    st.iframe(f"{_PAGE}?theme={theme}", height=_HEIGHT, alt="Notify me in this browser when a job ends")


def _look(services: Services) -> None:
    watched: set[uuid.UUID] = st.session_state["watched"]
    if not watched:
        return
    for job in services.jobs.find_ended(list(watched)):
        watched.discard(job.id)
        st.toast(_say_end(job), icon=_ICONS[job.status], duration="long")


def _say_end(job: JobAnswer) -> str:
    return f"**{plain(job.recipe)}** on {plain(job.dataset)}: {job.status}, {say_count(job)}."
