"""The evaluation of a job that segmented, on its page: against uploaded references, or against corrections."""

import json
import uuid
from typing import Any

import streamlit as st

from voxelight.app.schemas import NOTICE, ArtifactAnswer
from voxelight.app.schemas_exports import ActionAnswer, MapsEvaluationRequest
from voxelight.app.services import Services
from voxelight.app.ui.downloads import offer_downloads
from voxelight.app.ui.evaluation import REPORT_HEIGHT, show_action, start
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.pictures import KEPT_S
from voxelight.app.ui.problems import build
from voxelight.app.ui.wording import plain

_REFERENCES = {"Uploaded label maps": "stored", "Corrections of the results": "corrections"}
_MISSING = {"Leave them out": "left-out", "Count them as missed": "empty"}
_LISTED = 5
_SHOWN = {"dice": "Dice", "nsd": "NSD", "hd95_mm": "HD95 (mm)", "volume_error_ml": "Volume error (ml)"}


def show_map_evaluation(services: Services, job_id: uuid.UUID) -> None:
    """Show the evaluation of a job that segmented, or offer it."""
    show_action(services, job_id, "evaluate-maps", _ask, _show)


def _ask(services: Services, job_id: uuid.UUID) -> None:
    st.caption(
        "Scores every label map against a reference, each mean with its interval. Upload the reference of NAME.nii.gz "
        "as NAME_dseg.nii.gz, under the same subject and session. A worker does it."
    )
    job = services.jobs.show(job_id)
    with st.form(f"evaluate-maps-form-{job_id}", border=False):
        left, right = st.columns(2)
        references = left.selectbox("References", list(_REFERENCES), key=f"references-{job_id}")
        dataset = right.text_input(
            "Data set of the references",
            key=f"references-in-{job_id}",
            placeholder=job.dataset,
            help=f"Left empty: that of the job. {tell_more('segmentation', 'evaluation')}",
        )
        tolerance = left.number_input(
            "Tolerance (mm)", 0.1, 100.0, 1.0, key=f"tolerance-{job_id}", help="Of the normalised surface distance"
        )
        missing = right.selectbox("References without a label map", list(_MISSING), key=f"missing-{job_id}")
        if st.form_submit_button("Evaluate", icon=":material/balance:"):
            start(
                job_id,
                lambda: services.actions.evaluate_maps(
                    job_id,
                    build(
                        MapsEvaluationRequest,
                        references=_REFERENCES[references],
                        dataset=dataset.strip() or None,
                        tolerance_mm=tolerance,
                        missing=_MISSING[missing],
                    ),
                ),
            )


def _show(services: Services, action: ActionAnswer) -> None:
    files = {file.role: file for file in action.artifacts}
    report = _read(services, files["maps_evaluation_data"], files["maps_evaluation_data"].sha256)
    rows = [
        {"Label": plain(label["label"])} | {title: _say(label["scores"].get(name)) for name, title in _SHOWN.items()}
        for label in report["labels"]
    ]
    st.table(rows, hide_index=True, border="horizontal")
    st.caption(f"{len(report['cases'])} cases. Means over persons with 95 % intervals. {NOTICE}")
    if left_out := report.get("left_out", {}):
        st.warning(f"Left out, since they could not be scored: {len(left_out)}. The report below says why.")
        st.markdown("\n".join(f"- {plain(case)}: {plain(reason)}" for case, reason in list(left_out.items())[:_LISTED]))
    page = files["maps_evaluation"]
    st.iframe(page.url, height=REPORT_HEIGHT, alt="The whole report", tab_index=0)
    with st.container(horizontal=True, gap="small"):
        st.link_button("Open the report alone", page.url, icon=":material/open_in_new:")
        offer_downloads(services, action.artifacts)


def _say(interval: dict[str, float] | None) -> str:
    return "" if interval is None else f"{interval['estimate']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


# A leading underscore keeps an argument out of the key: the hash alone names the content.
@st.cache_data(max_entries=32, ttl=KEPT_S, show_spinner=False)
def _read(_services: Services, _file: ArtifactAnswer, sha256: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(_services.results.read(_file))
    return report
