"""Quality control on the page: the review itself in a frame, the group report, and whether two reviewers agree."""

import uuid
from functools import partial
from urllib.parse import urlencode

import streamlit as st

from voxelight.app.schemas import JobAnswer
from voxelight.app.schemas_reviews import AgreementAnswer
from voxelight.app.services import Services
from voxelight.app.ui.downloads import stays_here
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.wording import plain, say_many, say_number, say_time

_PAGE = "/api/v1/pages/review"
_HEIGHT, _REPORT_HEIGHT = 1000, 900
_WORDS = {"accept": "Accepted", "unsure": "Unsure", "reject": "Rejected"}
_LISTED = 200


def choose_job(services: Services, named: str | None) -> JobAnswer | None:
    """Ask which job to review, of those that gave something; None where there is none."""
    jobs = {str(job.id): job for job in services.jobs.list(limit=_LISTED).items if job.done}
    if named and named not in jobs:
        found = services.jobs.show(_parse(named))
        jobs = {named: found} | jobs
    if not jobs:
        return None
    options = list(jobs)
    chosen = st.selectbox(
        "Job",
        options,
        index=options.index(named) if named in options else 0,
        format_func=lambda name: _say_job(jobs[name]),
        key="review-job",
        help=f"Jobs that have results, the newest first. {tell_more('review', 'review')}",
    )
    return jobs[chosen]


def show_review(job: JobAnswer, run: str | None = None) -> None:
    """Show the review page in a frame, with a way to open it alone."""
    theme = st.context.theme.type
    parameters = {"job": str(job.id), "result": run, "theme": theme}
    address = f"{_PAGE}?{urlencode({name: value for name, value in parameters.items() if value})}"
    st.iframe(address, height=_HEIGHT, alt=f"Review of {job.dataset}")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.link_button("Open the review alone", address, icon=":material/open_in_new:")
        st.caption("Click into the review once, then A, R, U, C and the arrow keys work.", width="content")


def show_group(services: Services, job: JobAnswer) -> None:
    """Show the numbers of all cases side by side, and let them be taken home."""
    from voxelight.app.exports.group_page import write_group

    group = services.quality.group(job.id)
    apart = {value.item for measure in group.measures for value in measure.values if value.outlier}
    st.markdown(f"{say_many(group.cases, 'case')}, {len(apart)} with a number far from the others.")
    if not stays_here(partial(services.privacy.refuse_job, job.id)):
        st.download_button(
            "Download the group report",
            data=lambda: write_group(group),
            file_name=f"group-{str(job.id)[:8]}.html",
            mime="text/html",
            icon=":material/download:",
            on_click="ignore",
            help="One HTML file that asks nobody for anything.",
        )
    st.iframe(f"/api/v1/jobs/{job.id}/group.html", height=_REPORT_HEIGHT, alt="Group report")


def show_agreement(services: Services, job: JobAnswer) -> None:
    """Compare two reviewers, once there are two."""
    reviewers = services.reviews.list_reviewers(job.id)
    if reviewers:
        rows = [{"Reviewer": each.reviewer, "Reviewed": f"{each.reviewed} of {job.done}"} for each in reviewers]
        st.table(rows, hide_index=True, border="horizontal")
    names = [each.reviewer for each in reviewers]
    if len(names) < 2:
        st.caption("Two reviewers are needed: ask a second person to review this job under another name.")
        return
    left, right = st.columns(2)
    first = left.selectbox("First reviewer", names, key="review-first")
    others = [name for name in names if name != first]
    second = right.selectbox("Second reviewer", others, key="review-second")
    _show_kappa(services.quality.agree(job.id, first, second))


def _show_kappa(found: AgreementAnswer) -> None:
    if not found.items:
        st.caption("These two have no case in common yet.")
        return
    tiles = st.columns(3)
    tiles[0].metric("Cohen's kappa", "–" if found.kappa is None else f"{found.kappa:.2f}", border=True)
    interval = "–" if found.low is None or found.high is None else f"{found.low:.2f} to {found.high:.2f}"
    tiles[1].metric("95 % interval", interval, border=True)
    tiles[2].metric("Same verdict", f"{found.observed or 0:.0%} of {found.items}", border=True)
    if found.kappa is None:
        st.caption("Kappa is not defined: both used one and the same word for every case.")
    if found.revised:
        st.warning(
            f"{say_many(found.revised, 'verdict')} saved again after the other's view could be seen.",
            icon=":material/visibility:",
        )
    rows = [
        {f"{plain(found.first)} ↓ {plain(found.second)} →": _WORDS[word]}
        | {_WORDS[other]: str(count) for other, count in zip(found.words, row, strict=True)}
        for word, row in zip(found.words, found.table, strict=True)
    ]
    st.table(rows, hide_index=True, border="horizontal")
    if found.differ:
        st.markdown(f"**They differ on {say_many(len(found.differ), 'case')}**")
        differ = [
            {"Case": each.item, found.first: _WORDS[each.first], found.second: _WORDS[each.second]}
            for each in found.differ[:_LISTED]
        ]
        st.table(differ, hide_index=True, border="horizontal")
    st.markdown("**Corrections of both**")
    if found.dice:
        dice = [
            {
                "Label": each.label,
                "Mean Dice": say_number(each.dice),
                "95 % interval": f"{say_number(each.low)} to {say_number(each.high)}",
                "Cases": str(each.cases),
                "Subjects": str(each.subjects),
            }
            for each in found.dice
        ]
        st.table(dice, hide_index=True, border="horizontal")
    else:
        st.caption("No case was corrected by both. Corrections are drawn in the viewer, under the same names.")


def _say_job(job: JobAnswer) -> str:
    return f"{job.recipe} on {job.dataset}, {say_many(job.done, 'result')}, {say_time(job.created_at)}"


def _parse(name: str) -> uuid.UUID:
    try:
        return uuid.UUID(name)
    except ValueError:
        return uuid.UUID(int=0)  # nothing has it, and the refusal says so
