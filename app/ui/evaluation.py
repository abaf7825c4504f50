"""What can be asked of a finished job that decoded: its evaluation, and where in the brain its decoder looks."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import streamlit as st

from voxelight.app.exports.report import tabulate_evaluation
from voxelight.app.schemas import ArtifactAnswer
from voxelight.app.schemas_exports import ActionAnswer, ActionKind, EvaluationRequest, RelevanceRequest
from voxelight.app.services import Services
from voxelight.app.ui.downloads import offer_downloads
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.marks import note_decoding
from voxelight.app.ui.pictures import KEPT_S, show_picture
from voxelight.app.ui.problems import build, show_problem
from voxelight.app.ui.wording import ACTIVE, plain, say_number, say_time
from voxelight.models.errors import VoxelightError

_LOOKS_EVERY_S = 2.0
REPORT_HEIGHT = 640
_TEXTS: dict[ActionKind, tuple[str, str]] = {
    "evaluate": ("Evaluation", "balance"),
    "evaluate-maps": ("Evaluation", "balance"),
    "relevance": ("Where the decoder looks", "neurology"),
}
_SPACES = {"As the header of the mask says": None, "MNI152": "MNI152", "Native": "native"}


def show_actions(services: Services, job_id: uuid.UUID) -> None:
    """Show evaluation and relevance of a job that decoded, or offer them."""
    show_action(services, job_id, "evaluate", _ask_evaluation, _show_evaluation)
    show_action(services, job_id, "relevance", _ask_relevance, _show_relevance)


def show_action(
    services: Services,
    job_id: uuid.UUID,
    kind: ActionKind,
    ask: Callable[[Services, uuid.UUID], None],
    show: Callable[[Services, ActionAnswer], None],
) -> None:
    """Show one kind of action: the form to ask for it, how far it is, or what it gave."""
    title, icon = _TEXTS[kind]
    action = services.actions.find(job_id, kind)
    waiting = action is not None and action.status in ACTIVE
    with st.expander(title, icon=f":material/{icon}:", expanded=waiting, key=f"{kind}-{job_id}"):
        if action is None:
            ask(services, job_id)
        elif waiting:
            st.fragment(_wait, run_every=_LOOKS_EVERY_S)(services, job_id, kind)
        elif action.status == "failed":
            _show_failure(action)
            ask(services, job_id)
        else:
            show(services, action)
            with st.popover("Ask again", icon=":material/replay:"):
                ask(services, job_id)


def _wait(services: Services, job_id: uuid.UUID, kind: ActionKind) -> None:
    action = services.actions.show(job_id, kind)
    if action.status not in ACTIVE:
        st.rerun()
    told = "waits for a worker" if action.status == "queued" else f"under way since {say_time(action.started_at)}"
    st.markdown(f":material/hourglass_top: {_TEXTS[kind][0]}: {told}. It goes on if you leave this page.")


def _show_failure(action: ActionAnswer) -> None:
    problem = action.problem
    show_problem(VoxelightError(problem["found"], problem["expected"], problem["remedy"]), "It failed")
    if problem.get("traceback"):
        with st.popover("Traceback"):
            st.code(problem["traceback"], language=None)


def _ask_evaluation(services: Services, job_id: uuid.UUID) -> None:
    st.caption("Scores every decoded picture beside null and control rows, each with its interval. A worker does it.")
    with st.form(f"evaluate-form-{job_id}", border=False):
        left, right = st.columns(2)
        sessions = left.text_input(
            "Sessions of the training",
            key=f"sessions-{job_id}",
            help=f"Where the data do not say; e.g. 40. {tell_more('shell', 'voxelight-evaluate')}",
        )
        betas = right.text_input(
            "Version of the betas",
            key=f"betas-{job_id}",
            help="Where they were measured; e.g. betas_fithrf_GLMdenoise_RR",
        )
        test_set = left.text_input("Test set", key=f"test-{job_id}", help="How the scored stimuli were chosen")
        regions = left.text_input(
            "Regions",
            key=f"regions-{job_id}",
            placeholder="Names with commas between them",
            help="Masks of the same subject, or regions of a registered folder: a brain encoder of each scores the "
            "pictures, and one that shares no voxel with the decoder chooses among samples.",
        )
        draws = right.number_input("Draws of the null", 19, 100_000, 999, key=f"draws-{job_id}")
        ceiling = st.checkbox(
            "Also generate from true tokens",
            key=f"ceiling-{job_id}",
            help="What a perfect decoder would reach; takes as long as the job did.",
        )
        if st.form_submit_button("Evaluate", icon=":material/balance:"):
            start(
                job_id,
                lambda: services.actions.evaluate(
                    job_id,
                    build(
                        EvaluationRequest,
                        sessions=sessions.strip() or None,
                        betas=betas.strip() or None,
                        test_set=test_set.strip() or None,
                        permutations=int(draws),
                        ceiling=ceiling,
                        regions=tuple(name.strip() for name in regions.split(",") if name.strip()),
                    ),
                ),
            )


def _ask_relevance(services: Services, job_id: uuid.UUID) -> None:
    st.caption(
        "Which voxels go along with what is decoded, put back into the brain. Needs betas as NIfTI with a mask; glass "
        "brain and surface are drawn where these lie in MNI152."
    )
    with st.form(f"relevance-form-{job_id}", border=False):
        space = st.selectbox(
            "Space of the betas",
            list(_SPACES),
            key=f"space-{job_id}",
            help="Stating MNI152 does not move anything there.",
        )
        if st.form_submit_button("Map it", icon=":material/neurology:"):
            request = RelevanceRequest(space=_SPACES[space])  # type: ignore[arg-type]  # as the table has it
            start(job_id, lambda: services.actions.map_relevance(job_id, request))


def start(job_id: uuid.UUID, ask: Callable[[], ActionAnswer]) -> None:
    """Ask for it; a refusal stands below the form."""
    try:
        ask()
    except VoxelightError as error:
        show_problem(error)
    else:
        st.rerun()


def _show_evaluation(services: Services, action: ActionAnswer) -> None:
    [data] = [file for file in action.artifacts if file.role == "evaluation_data"]
    [page] = [file for file in action.artifacts if file.role == "evaluation"]
    report = _read_report(services, data, data.sha256)
    for mark in report["marks"]:
        st.error(plain(mark), icon=":material/warning:")
    summary = tabulate_evaluation(report)
    st.table([dict(zip(summary.head, row, strict=True)) for row in summary.rows], hide_index=True, border="horizontal")
    st.caption(plain(summary.about))
    broken = [guard for guard in report["guards"] if guard["status"] != "held"]
    st.caption(f"Guard-rails: {len(report['guards']) - len(broken)} held, {len(broken)} not checked.")
    note_decoding(report["conditions"]["random_weights"])
    st.iframe(page.url, height=REPORT_HEIGHT, alt="The whole report", tab_index=0)
    with st.container(horizontal=True, gap="small"):
        st.link_button("Open the report alone", page.url, icon=":material/open_in_new:")
        offer_downloads(services, action.artifacts)


def _show_relevance(services: Services, action: ActionAnswer) -> None:
    [data] = [file for file in action.artifacts if file.role == "relevance_facts"]
    facts = _read_report(services, data, data.sha256)
    for file in action.artifacts:
        if file.role == "relevance":
            show_picture(services, file, alt=f"Map of {file.name.removesuffix('.png').replace('_', ' ')}")
    agreement = facts.get("agreement")
    st.caption(
        f"{facts['voxels']} voxels, {facts['space']} space, {facts['stimuli']} stimuli"
        + (f"; halves of the stimuli give maps that correlate by {say_number(agreement)}." if agreement else ".")
    )
    st.caption("  \n".join(map(plain, [facts["method"], *facts["notes"]])))
    note_decoding(facts["random_weights"])
    with st.container(horizontal=True, gap="small"):
        offer_downloads(services, [file for file in action.artifacts if file.role != "relevance"])


# A leading underscore keeps an argument out of the key: the hash alone names the content.
@st.cache_data(max_entries=32, ttl=KEPT_S, show_spinner=False)
def _read_report(_services: Services, _file: ArtifactAnswer, sha256: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(_services.results.read(_file))
    report.pop("by_picture", None)
    report.pop("null", None)
    return report
