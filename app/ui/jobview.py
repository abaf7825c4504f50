"""One job: how far it is, its scores, its pictures, and what became of every item."""

import json
import uuid
from collections.abc import Sequence

import streamlit as st

from voxelight.app.schemas import JobAnswer, MetricAnswer, RunAnswer
from voxelight.app.services import Services
from voxelight.app.ui.downloads import offer_downloads
from voxelight.app.ui.joblist import MOVING_S, show_actions, show_head, show_progress
from voxelight.app.ui.marks import note_decoding
from voxelight.app.ui.pictures import show_picture
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.wording import ACTIVE, KINDS, plain, say_interval, say_number, say_score, say_time
from voxelight.models.errors import BadInput

_SHOWN_FAILURES = 20


def show_job(services: Services, name: str) -> None:
    """Show the job of this id, renewed while it moves."""
    job = services.jobs.show(_parse(name))
    if job.status in ACTIVE:
        st.fragment(_follow, run_every=MOVING_S)(services, job.id)
    else:
        _show(services, job)


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


def _follow(services: Services, job_id: uuid.UUID) -> None:
    job = services.jobs.show(job_id)
    if job.status not in ACTIVE:
        st.rerun()
    _show(services, job)


def _show(services: Services, job: JobAnswer) -> None:
    with problems_shown():
        show_head(job)
        show_progress(job)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            show_actions(services, job)
            if job.done:
                st.page_link(
                    "screens/results.py",
                    label="See its results",
                    icon=":material/imagesmode:",
                    query_params={"job": str(job.id)},
                )
            offer_downloads(services, job.artifacts)
        _show_facts(job)
        if job.error:
            st.error(f"The items are done, the end of the job failed: {plain(job.error.splitlines()[0])}")
            with st.expander("Traceback"):
                st.code(job.error, language=None)
        if job.metrics:
            st.subheader("Scores")
            show_scores(job.metrics)
            _show_conditions(services, job)
        _show_sheet(services, job)
        _show_items(services.jobs.list_runs(job.id))


def _show_facts(job: JobAnswer) -> None:
    options = f" · options {plain(job.options)}" if job.options else ""
    st.caption(
        f"{KINDS[job.kind]} · model {plain(job.model)} · queue {job.queue} · seed {job.seed} · attempt {job.attempt} · "
        f"submitted {say_time(job.created_at)}{options}"
    )


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


def _show_items(runs: Sequence[RunAnswer]) -> None:
    st.subheader("Items")
    rows = [
        {
            "Item": run.item,
            "State": run.status,
            "Subject": run.subject,
            "Scan": run.scan,
            "Starts": run.attempts,
            "Error": f"{run.error_class}: {run.error_message}" if run.error_class else "",
            "Finished": say_time(run.finished_at),
        }
        for run in runs
    ]
    st.dataframe(rows, hide_index=True, height=min(420, 38 + 35 * max(1, len(rows))))
    failed = [run for run in runs if run.error_class]
    for run in failed[:_SHOWN_FAILURES]:
        with st.expander(f"{plain(run.item)} failed: {plain(run.error_class)}", icon=":material/error:"):
            st.markdown(plain(run.error_message))
            st.code(run.traceback, language=None)
    if len(failed) > _SHOWN_FAILURES:
        st.caption(f"{len(failed) - _SHOWN_FAILURES} more failed; the table names them.")
