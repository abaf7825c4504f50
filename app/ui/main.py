"""The page: one frame, five files."""

import streamlit as st

from voxelight.app.ui.deletion import show_last_deletion
from voxelight.app.ui.marks import ICON, show_frame
from voxelight.app.ui.notices import show_notices
from voxelight.app.web import current_services

st.set_page_config(page_title="Voxelight", page_icon=ICON, layout="wide")
# Not in a folder called pages: Streamlit would run its files by themselves, without the frame, at an address that
# is opened before the navigation is known.
page = st.navigation(
    [
        st.Page("screens/upload.py", title="Upload", icon=":material/upload_file:", default=True),
        st.Page("screens/jobs.py", title="Jobs", icon=":material/play_circle:"),
        st.Page("screens/results.py", title="Results", icon=":material/imagesmode:"),
        st.Page("screens/compare.py", title="Compare", icon=":material/compare_arrows:"),
        st.Page("screens/viewer.py", title="Viewer", icon=":material/view_in_ar:"),
        st.Page("screens/explore.py", title="Explore", icon=":material/travel_explore:"),
        st.Page("screens/export.py", title="Export", icon=":material/archive:"),
        st.Page("screens/review.py", title="Review", icon=":material/rate_review:"),
        st.Page("screens/followup.py", title="Follow-up", icon=":material/timeline:"),
        st.Page("screens/models.py", title="Models", icon=":material/hub:"),
        st.Page("screens/about.py", title="About", icon=":material/info:"),
    ],
    position="top",
)
st.logo(ICON, size="large")
show_frame()
show_notices(current_services())
show_last_deletion(current_services())
page.run()
