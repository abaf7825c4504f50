"""Register a folder of fMRI betas that lies on the server."""

import streamlit as st

from voxelight.app.schemas_recordings import RecordingIndex, RecordingLook, RecordingRequest
from voxelight.app.services import Services
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.marks import mark_simulated
from voxelight.app.ui.problems import build, show_problem
from voxelight.app.ui.wording import plain, say_many
from voxelight.models.errors import VoxelightError

_HELP = "For data too large to be uploaded: they stay where they are. " + tell_more("fmri", "register-a-folder")


def register_folder(services: Services, dataset: str) -> None:
    """Offer to register a folder, where the installation opens any."""
    if not services.recordings.roots:
        return
    with st.expander("A folder of fMRI betas on the server", icon=":material/folder_open:"):
        st.caption(_HELP)
        path = st.text_input("Folder or file", key="recording-path", placeholder=str(services.recordings.roots[0]))
        if st.button("Look into it", disabled=not path.strip()):
            _look(services, path.strip())
        found: tuple[str, RecordingIndex] | None = st.session_state.get("recording-found")
        if found and found[0] == path.strip():
            _offer(services, dataset, *found)


def _look(services: Services, path: str) -> None:
    st.session_state.pop("recording-found", None)
    try:
        st.session_state["recording-found"] = path, services.recordings.look(build(RecordingLook, path=path))
    except VoxelightError as error:
        show_problem(error)


def _offer(services: Services, dataset: str, path: str, found: RecordingIndex) -> None:
    st.markdown(f"**{plain(found.title)}**")
    mark_simulated(found.simulated)
    st.caption(f"Terms: {plain(found.terms)}. {' '.join(map(plain, found.notes))}")
    shown = ("subject", "sessions", "runs", "trials", "stimuli", "repeated")
    st.dataframe([row.model_dump(include=set(shown)) for row in found.subjects], hide_index=True, column_order=shown)
    rois = list(dict.fromkeys(roi for row in found.subjects for roi in row.rois))
    subjects = st.multiselect("Subjects", [row.subject for row in found.subjects], key="recording-subjects")
    roi = st.selectbox("Region", rois, key="recording-roi")
    chosen = subjects or [row.subject for row in found.subjects]
    if not st.button(f"Register {say_many(len(chosen), 'subject')} in {plain(dataset)}", type="primary"):
        return
    try:
        request = build(RecordingRequest, path=path, layout=found.layout, subjects=tuple(chosen), roi=roi)
        answer = services.recordings.register(dataset, request)
    except VoxelightError as error:
        show_problem(error)
        return
    st.success(f"{say_many(len(answer.scans), 'subject')} registered; the files stay where they are.")
    for scan in answer.scans:
        for warning in scan.warnings:
            st.warning(f"{plain(scan.subject)}: {plain(warning['found'])}. {plain(warning['remedy'])}")
