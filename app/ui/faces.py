"""Take the face out of a scan that is stored: look before and after, then decide."""

import uuid

import streamlit as st

from voxelight.app.schemas_privacy import Decision
from voxelight.app.services import Services
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.problems import build, show_problem
from voxelight.app.ui.wording import plain
from voxelight.models.errors import VoxelightError

_STATUS = {
    "defaced": "Its face was taken out.",
    "deface-failed": "A face could not be taken out of it: it is held until a person has looked.",
}
_HELP = "Nose, mouth, chin and eyes become the darkest value of the image; brow, ears and skull stay. "


def show_face(services: Services, scan_id: uuid.UUID) -> None:
    """Offer to take the face out of a scan, or say that it is done."""
    scan = services.scans.show(scan_id)
    if said := _STATUS.get(scan.deid_status):
        st.caption(f"{said} {plain(scan.held)}")
    if scan.deid_status == "defaced":
        return
    with st.expander("Take its face out", icon=":material/face_retouching_off:"):
        st.caption(_HELP + tell_more("privacy", "faces"))
        key = f"face-{scan_id}"
        if st.button("Show before and after", key=f"{key}-look", help="Up to a minute; nothing is stored."):
            try:
                with st.spinner("Aligning the head to a template", show_time=True):
                    st.session_state[key] = services.privacy.preview_face(scan_id)
            except VoxelightError as error:
                st.session_state.pop(key, None)
                show_problem(error)
        if key in st.session_state:
            st.image(st.session_state[key], caption="Before, with the face, and after")
        _decide(services, scan_id, key)


def _decide(services: Services, scan_id: uuid.UUID, key: str) -> None:
    with st.form(f"{key}-form", border=False):
        author = st.text_input("Your name", value=st.session_state.get("author", ""), max_chars=120)
        reason = st.text_input("Why", max_chars=2000, placeholder="To be shared")
        decided = st.form_submit_button(
            "Take it out for good", type="primary", help="What was stored before is removed; results stay."
        )
    if not decided:
        return
    try:
        decision = build(Decision, author=author, reason=reason)
        st.session_state["author"] = decision.author
        with st.spinner("Taking the face out", show_time=True):
            services.privacy.deface(scan_id, decision)
    except VoxelightError as error:
        show_problem(error)
    else:
        st.session_state.pop(key, None)
        st.rerun()
