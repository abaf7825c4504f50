"""Scans that may show a name in their picture: a person looks, then lets jobs take them or has them removed."""

import streamlit as st

from voxelight.app.schemas import ScanAnswer
from voxelight.app.schemas_privacy import Decision
from voxelight.app.services import Services
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.problems import BadField, build, show_problem
from voxelight.app.ui.wording import plain
from voxelight.models.errors import VoxelightError

_SHOWN = 20
_HELP = (
    "Cleaning a header takes no writing out of a picture. No job takes the scan until somebody has looked at it. "
    + tell_more("privacy", "writing-in-the-picture")
)


def show_held(services: Services, dataset: str) -> None:
    """Show the held scans of a data set with what a person can decide; nothing where there are none."""
    page = services.privacy.list_held(dataset, limit=_SHOWN)
    if not page.items:
        return
    st.subheader(f"Held for a look: {len(page.items)}{'+' if page.next_cursor else ''}", help=_HELP)
    st.caption("Look for names, numbers and dates in the picture itself. Released scans can be taken by jobs.")
    for scan in page.items:
        with st.container(border=True):
            _show_one(services, scan)


def _show_one(services: Services, scan: ScanAnswer) -> None:
    picture, words = st.columns([2, 3])
    thumbnail = services.scans.read_thumbnail(scan.id)
    if thumbnail:
        picture.image(thumbnail, caption=f"{scan.subject}, {scan.session}, {scan.name}")
    with words:
        st.markdown(f"**{plain(scan.name)}** is held: {plain(scan.held)}.")
        st.link_button("Look at every slice", f"/viewer?scan={scan.id}", help="Opens the viewer on this scan.")
        with st.form(f"held-{scan.id}", border=False):
            below = {}
            author = st.text_input("Your name", value=st.session_state.get("author", ""), max_chars=120)
            below["author"] = st.empty()
            reason = st.text_input("What you saw", max_chars=2000, placeholder="No writing in any slice")
            below["reason"] = st.empty()
            yes, no = st.columns(2)
            released = yes.form_submit_button("Release", type="primary", help="Let jobs take it; your name is kept.")
            rejected = no.form_submit_button(
                "Remove for good", help="Removes it from this installation, with a receipt."
            )
        if released or rejected:
            decide = services.privacy.release if released else services.privacy.reject
            try:
                decision = build(Decision, author=author, reason=reason)
                st.session_state["author"] = decision.author
                decide(scan.id, decision)
            except VoxelightError as error:
                with below[error.field if isinstance(error, BadField) else "reason"].container():
                    show_problem(error)
            else:
                st.rerun()
