"""One training: its curves while they grow, how to stop and take it up, and the model that came out."""

import uuid
from typing import NamedTuple

import streamlit as st

from voxelight.app.schemas import NOTICE, JobAnswer
from voxelight.app.services import Services
from voxelight.app.ui.curvecharts import show_curves, show_steps
from voxelight.app.ui.downloads import offer_downloads
from voxelight.app.ui.joblist import follow, offer, retry, show_head, show_refusal
from voxelight.app.ui.jobview import show_scores
from voxelight.app.ui.links import link_page
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.wording import ACTIVE, plain, say_time
from voxelight.models.errors import BadInput

RENEWED_S = 2.0


class _Words(NamedTuple):
    """What is said of a training of one kind; `terms` are the losses that have a chart of their own."""

    scores: str
    used_in: str
    use: str
    terms: tuple[str, ...] = ()


_WORDS = {
    "train-segmenter": _Words("Dice of persons that were held out", "a segmentation", "Segment with it"),
    "train-decoder": _Words(
        "On pictures that were held out", "a decoding", "Decode with it", ("clip", "prior", "absolute")
    ),
    "train-linear": _Words("On pictures that were held out", "a decoding", "Decode with it"),
}


def show_training(services: Services, name: str) -> None:
    """Show the training of this id, renewed while it runs."""
    try:
        job_id = uuid.UUID(name)
    except ValueError:
        raise BadInput(f"the job id {name[:60]!r}", "an id as the list gives it", "Open the training there.") from None
    follow(services, job_id, _show, RENEWED_S)


def _show(services: Services, job: JobAnswer) -> None:
    with problems_shown():
        curves = services.trainings.read_curves(job.id)
        show_head(job)
        show_steps(curves, job.status == "cancelled")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            _offer_verbs(services, job)
            link_page("jobs", "Items and log", "list", job=str(job.id))
            offer_downloads(services, job.artifacts)
        show_refusal(job)
        words = _WORDS[job.kind]
        show_curves(curves, words.terms)
        if job.metrics:
            st.subheader(words.scores)
            show_scores(job.metrics)
        if job.status == "done":
            st.success(f"The model {plain(job.model)} can be named in {words.used_in} now.", icon=":material/hub:")
            link_page("jobs", words.use, "play_circle")
            link_page("models", "See its card", "hub")
        st.caption(f"Model {plain(job.model)} · queue {job.queue} · submitted {say_time(job.created_at)}. {NOTICE}")


def _offer_verbs(services: Services, job: JobAnswer) -> None:
    if job.status in ACTIVE:
        help_ = "After a checkpoint is written; it can be taken up again."
        offer("Stop", ":material/stop:", services.jobs.cancel, job, help=help_)
    elif job.status in ("failed", "cancelled"):
        offer(
            "Resume", ":material/replay:", lambda job_id: retry(services, job_id), job, help="From its last checkpoint."
        )
