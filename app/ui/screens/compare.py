"""Compare: two jobs, or two models, side by side with paired differences; the address of the page names both."""

import uuid

import streamlit as st

from voxelight.app.schemas import JobAnswer, ResultQuery
from voxelight.app.schemas_search import CompareAnswer
from voxelight.app.services import Services
from voxelight.app.ui.comparison import show_comparison
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.marks import show_empty
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.wording import say_count, say_time
from voxelight.app.web import current_services
from voxelight.models.errors import NotFound

LISTED = 200
SHOWN = 500
ENDED = ("done", "failed", "cancelled")
JOBS, MODELS = "Two jobs", "Two models"


def ask_jobs(services: Services) -> CompareAnswer | None:
    """Ask for two jobs; the list holds the newest, and those of the address."""
    jobs = {str(job.id): job for job in services.jobs.list(limit=LISTED).items if job.done and job.status in ENDED}
    for key in ("a", "b"):
        name = st.query_params.get(key)
        if name and name not in jobs:
            jobs[name] = services.jobs.show(_parse(name))
    if len(jobs) < 2:
        show_empty("A comparison takes two jobs that have given results.", "screens/jobs.py", "Submit a job")
        return None
    first, second = (_ask(label, key, jobs) for label, key in (("First job", "a"), ("Second job", "b")))
    if not (first and second):
        st.caption("Choose two jobs that worked on the same scans, or on the same stimuli.")
        return None
    return services.compare.jobs(jobs[first].id, jobs[second].id, SHOWN)


def ask_models(services: Services) -> CompareAnswer | None:
    """Ask for two models, and for the data set that both worked on."""
    names = list(dict.fromkeys(model.name for model in services.results.list_models()))
    datasets = [dataset.name for dataset in services.datasets.list(limit=LISTED).items]
    if len(names) < 2:
        show_empty("A comparison takes two models that have done work here.", "screens/jobs.py", "Submit a job")
        return None
    left, right, within = st.columns(3)
    with left:
        first = st.selectbox("First model", names, index=None, key="model_a", bind="query-params", placeholder="Choose")
    with right:
        second = st.selectbox(
            "Second model", names, index=None, key="model_b", bind="query-params", placeholder="Choose"
        )
    with within:
        dataset = st.selectbox("Data set", datasets, index=None, key="dataset", bind="query-params", placeholder="Any")
    if not (first and second):
        st.caption("Of several results of an item the newest counts.")
        return None
    return services.compare.models(first, second, ResultQuery(dataset=dataset), SHOWN)


def _ask(label: str, key: str, jobs: dict[str, JobAnswer]) -> str | None:
    names = list(jobs)
    asked = st.query_params.get(key)
    chosen = st.selectbox(
        label,
        names,
        index=names.index(asked) if asked in jobs else None,
        key=f"compare-{key}",
        placeholder="Choose",
        format_func=lambda name: _say_job(jobs[name]),
        help=f"Newest first. {tell_more('http', 'get-apiv1compare', 'How jobs are matched')}",
    )
    if chosen and chosen != asked:
        st.query_params[key] = chosen
    return chosen


def _parse(name: str) -> uuid.UUID:
    try:
        return uuid.UUID(name)
    except ValueError:
        raise NotFound(f"no job {name[:40]!r}", "the id of one", "Choose two jobs from the lists.") from None


def _say_job(job: JobAnswer) -> str:
    return f"{job.recipe} on {job.dataset}, {say_time(job.created_at)}, {say_count(job)}, {str(job.id)[:8]}"


st.title("Compare")
services = current_services()
with problems_shown():
    what = st.segmented_control(
        "Compare",
        [JOBS, MODELS],
        default=MODELS if "model_a" in st.query_params else JOBS,
        required=True,
        label_visibility="collapsed",
    )
    answer = ask_models(services) if what == MODELS else ask_jobs(services)
    if answer is not None:
        show_comparison(services, answer)
