"""One job: how far it is, its scores, its pictures, and what became of every item."""

import json
import uuid
from collections.abc import Sequence

import streamlit as st

from voxelight.app.schemas import JobAnswer, MetricAnswer
from voxelight.app.schemas_deletion import DeletionTarget
from voxelight.app.schemas_jobs import JobChange
from voxelight.app.services import Services
from voxelight.app.ui.deletion import show_deletion
from voxelight.app.ui.downloads import offer_downloads
from voxelight.app.ui.jobitems import show_failures, show_items
from voxelight.app.ui.joblist import MOVING_S, follow, show_actions, show_head, show_progress, show_refusal
from voxelight.app.ui.jobsettings import ask_priority
from voxelight.app.ui.marks import note_decoding
from voxelight.app.ui.pictures import show_picture
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.wording import ACTIVE, KINDS, plain, say_interval, say_number, say_score, say_time
from voxelight.models.errors import BadInput, VoxelightError

_LINES, _LOG_HEIGHT = 200, 240
_MARKS = {"info": " ", "warning": "!", "error": "✗"}


def show_job(services: Services, name: str) -> None:
    """Show the job of this id, renewed while it moves."""
    follow(services, _parse(name), _show, MOVING_S)


def show_scores(metrics: Sequence[MetricAnswer]) -> None:
    """Show scores, each with what one must know to compare it."""
    reference = "Chance" if any("chance" in metric.detail for metric in metrics) else "Null mean"
    rows = [
        {
            "Score": " ".join(filter(None, (say_score(metric.name), metric.label))),
            "Value": say_number(metric.value) + (f" {metric.unit}" if metric.unit else ""),
            "95 % interval": say_interval(metric),
            reference: say_number(metric.detail.get("null_mean", metric.detail.get("chance"))),
            "p": say_number(metric.detail.get("p")),
            "Normalisation": metric.detail.get("normalisation", "–"),
            "n": str(metric.detail.get("n", "–")),
        }
        for metric in metrics
    ]
    st.table(rows, hide_index=True, border="horizontal")


def _parse(name: str) -> uuid.UUID:
    try:
        return uuid.UUID(name)
    except ValueError:
        raise BadInput(
            f"the job id {name[:60]!r}", "an id as the list of jobs gives it", "Open the job there."
        ) from None


def _show(services: Services, job: JobAnswer) -> None:
    with problems_shown():
        show_head(job)
        show_progress(job)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            show_actions(services, job)
            if job.done or job.status in ACTIVE:
                st.page_link(
                    "screens/results.py",
                    label="See its results",
                    icon=":material/imagesmode:",
                    query_params={"job": str(job.id)},
                    disabled=not job.done,
                )
            offer_downloads(services, job.artifacts)
        show_refusal(job)
        if job.status in ACTIVE:
            _offer_priority(services, job)
        _show_facts(job)
        for note in job.notes:
            st.warning(plain(note), icon=":material/front_hand:")
        if job.error:
            st.error(f"The items are done, the end of the job failed: {plain(job.error.splitlines()[0])}")
            with st.expander("Traceback"):
                st.code(job.error, language=None)
        if job.metrics:
            st.subheader("Scores")
            show_scores(job.metrics)
            _show_conditions(services, job)
        _show_sheet(services, job)
        _show_maps(services, job)
        _show_course(services, job)
        if job.status not in ACTIVE:
            show_deletion(services, DeletionTarget(what="job", id=job.id))


def _show_course(services: Services, job: JobAnswer) -> None:
    """Show items, log and failures; while the job runs, what grows stands last, so that nothing jumps."""
    runs = show_items(services, job)
    if job.status in ACTIVE:
        _show_log(services, job)
        show_failures(services, job, runs)
    else:
        show_failures(services, job, runs)
        _show_log(services, job)


def _offer_priority(services: Services, job: JobAnswer) -> None:
    key = f"priority-{job.id}-{job.priority}"

    def act() -> None:
        st.session_state.pop(f"refusal-{job.id}", None)
        try:
            services.jobs.change(job.id, JobChange(priority=st.session_state[key]))
        except VoxelightError as error:
            st.session_state[f"refusal-{job.id}"] = error

    ask_priority(job.priority, key, on_change=act, width=220, disabled=job.status != "queued")


def _show_log(services: Services, job: JobAnswer) -> None:
    """Show the last lines of the log in a box of one height, the newest at its foot."""
    st.subheader("Log")
    lines = services.jobs.read_log(job.id, _LINES, newest=True).items
    text = "\n".join(f"{line.at:%H:%M:%S} {_MARKS[line.level]} {line.message}" for line in lines)
    with st.container(height=_LOG_HEIGHT, autoscroll=True, key=f"log-{job.id}"):
        st.code(text or "Nothing happened yet.", language=None, wrap_lines=True)
    if len(lines) == _LINES:
        st.caption(f"The last {_LINES} lines, in UTC; the whole log: `voxelight jobs log {job.id}`.")


def _show_facts(job: JobAnswer) -> None:
    options = f" · options {plain(job.options)}" if job.options else ""
    st.caption(
        f"{KINDS[job.kind]} · model {plain(job.model)} · queue {job.queue} · seed {job.seed} · attempt {job.attempt} · "
        f"submitted {say_time(job.created_at)}{options}"
    )
    if job.cloned_from is not None:
        st.caption(f"A copy of job {job.cloned_from}, with other settings where they were given.")


def _show_conditions(services: Services, job: JobAnswer) -> None:
    """Say under what conditions the scores hold, as the file of scores does."""
    for artifact in job.artifacts:
        if artifact.role == "scores":
            report = json.loads(services.results.read(artifact))
            notes = list(report["notes"])
            if "unit" in report:
                how = f"Held out by {report['unit']}, {report['permutations']} permutations, seed {report['seed']}."
                notes.insert(0, how)
            st.caption("  \n".join(map(plain, notes)))


def _show_sheet(services: Services, job: JobAnswer) -> None:
    for artifact in job.artifacts:
        if artifact.role == "contact_sheet":
            st.subheader("Contact sheet")
            note_decoding(job.random_weights)
            show_picture(services, artifact, alt="Stimuli beside their reconstructions")


def _show_maps(services: Services, job: JobAnswer) -> None:
    """Show the maps of an estimation of betas, two beside each other."""
    maps = [artifact for artifact in job.artifacts if artifact.role == "map_picture"]
    if not maps:
        return
    st.subheader("Quality of the betas")
    st.caption("The whole page, with the choices of each session, is among the files: Report.")
    for start in range(0, len(maps), 2):
        for column, artifact in zip(st.columns(2), maps[start : start + 2], strict=False):
            with column:
                show_picture(services, artifact, alt=artifact.name.removesuffix(".png").replace("-", " "))
