"""Export: choose results by the address or by hand, see what it will hold, take it home."""

import uuid
from html import escape
from urllib.parse import urlencode

import streamlit as st

from voxelight.app.schemas import JobAnswer, ResultQuery
from voxelight.app.schemas_exports import ExportAnswer
from voxelight.app.services import Services
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.marks import show_empty
from voxelight.app.ui.problems import build, problems_shown
from voxelight.app.ui.wording import plain, say_many, say_size, say_time
from voxelight.app.web import current_services
from voxelight.models.errors import BadInput, NotFound

_LISTED = 200
_FILES = {
    "report.html": ("Report as HTML", "One page that asks nobody for anything"),
    "report.pdf": ("Report as PDF", "The same to print"),
    "metrics.csv": ("Scores as CSV", "For spreadsheets"),
    "metrics.parquet": ("Scores as Parquet", "With types, for pandas and others"),
}


def ask_what(services: Services) -> dict[str, str | list[str]]:
    """Return the conditions as the address of an export has them: from this page's own, else asked for."""
    asked = {key: st.query_params.get_all(key) for key in st.query_params if key in ADDRESS}
    if "result" in asked:
        asked["run"] = asked.pop("result")
    fixed = {key: values if key in ("run", "metric") else values[0] for key, values in asked.items() if values}
    if fixed:
        named = ", ".join(
            f"{key} {value if isinstance(value, str) else ' '.join(value)}" for key, value in fixed.items()
        )
        st.markdown(f"Results of {plain(named)}")
        if st.button("Choose others", icon=":material/close:", type="tertiary"):
            st.query_params.clear()
            st.rerun()
        return fixed
    left, middle, right = st.columns(3)
    searches = {each.slug: each.title for each in services.searches.list(limit=_LISTED).items}
    jobs = {str(job.id): f"{job.recipe} on {job.dataset}, {say_time(job.created_at)}" for job in list_jobs(services)}
    datasets = [each.name for each in services.datasets.list(limit=_LISTED).items]
    with left:
        dataset = st.selectbox("Data set", datasets, index=None, placeholder="Any", key="export-dataset")
    with middle:
        job = st.selectbox(
            "Job", list(jobs), index=None, placeholder="Any", format_func=jobs.__getitem__, key="export-job"
        )
    with right:
        search = st.selectbox(
            "Saved search",
            list(searches),
            index=None,
            placeholder="None",
            format_func=searches.__getitem__,
            key="export-search",
        )
    chosen = {"dataset": dataset, "job": job, "search": search}
    return {key: value for key, value in chosen.items() if value}


def list_jobs(services: Services) -> list[JobAnswer]:
    """Return the newest jobs that gave something."""
    return [job for job in services.jobs.list(limit=_LISTED).items if job.done]


def read_query(services: Services, asked: dict[str, str | list[str]]) -> tuple[ResultQuery, list[uuid.UUID]]:
    """Return the conditions as the services take them."""
    own = {key: value for key, value in asked.items() if key in ResultQuery.model_fields}
    slug = asked.get("search")
    saved = services.searches.read(slug).model_dump(exclude_unset=True) if isinstance(slug, str) else {}
    runs = asked.get("run", [])
    try:
        ids = [uuid.UUID(run) for run in runs]
    except ValueError:
        raise BadInput(f"the result {runs[0]!r}", "an id as the results give it", "Choose results there.") from None
    return build(ResultQuery, **saved | own), ids


def show_plan(plan: ExportAnswer) -> list[str]:
    """Show what there is, and return the formats that were chosen."""
    st.markdown(
        f"**{say_many(plan.results, 'result')}** of {say_many(plan.jobs, 'job')}, {say_size(plan.bytes)} as stored"
    )
    for warning in plan.warnings:
        st.warning(plain(warning), icon=":material/warning:")
    st.subheader("What the archive holds", anchor=False)
    chosen = []
    for each in plan.formats:
        count = say_many(
            each.files, "score" if each.name == "tables" else "result" if each.name == "report" else "file"
        )
        told = f"{each.title}: {count}" if each.files else f"{each.title}: none"
        if st.checkbox(
            told, value=bool(each.files), disabled=not each.files, key=f"format-{each.name}", help=each.reason or None
        ):
            chosen.append(each.name)
        if each.reason:
            st.caption(plain(each.reason))
    return [name for name in chosen if any(each.name == name and each.files for each in plan.formats)]


def offer(asked: dict[str, str | list[str]], formats: list[str], plan: ExportAnswer) -> None:
    """Offer the files; a browser takes them straight from the server, whatever their size."""
    if formats:
        link("archive.zip", asked | {"format": formats}, "Download the archive", f"{len(formats)} formats in one ZIP")
    else:
        st.caption("Choose a format for the archive, or take one of the files below.")
    st.subheader("Single files", anchor=False)
    for name, (label, told) in _FILES.items():
        link(name, asked, label, told)
    st.subheader("Before you pass it on", anchor=False)
    st.markdown("  \n".join(f"{plain(name)}: **{plain(licence)}**" for name, licence in plan.licences.items()))
    st.caption(
        f"{plan.notice} Provenance and citations are in every archive and report. Nothing of an export stays here."
    )


def link(name: str, asked: dict[str, str | list[str]], label: str, told: str) -> None:
    """Show a link that saves a file."""
    address = f"/api/v1/exports/{name}?{urlencode(asked, doseq=True)}"
    st.html(
        f'<p class="vx-download"><a href="{escape(address)}" download="voxelight-{name}">{escape(label)}</a> '
        f"<span>{escape(told)}</span></p>"
    )


ADDRESS = {*ResultQuery.model_fields, "search", "result", "run"} - {"sort"}

st.title("Export")
services = current_services()
st.caption(f"Take results home with provenance and citations. {tell_more('http', 'exports', 'For scripts')}")
with problems_shown():
    asked = ask_what(services)
    try:
        query, runs = read_query(services, asked)
        plan = services.exports.plan(query, runs)
    except NotFound:
        show_empty("No result to export here. Submit a job, or choose others.", "screens/jobs.py", "Jobs")
    else:
        what, files = st.columns(2, gap="large")
        with what:
            formats = show_plan(plan)
        with files:
            offer(asked, formats, plan)
