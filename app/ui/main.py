"""The page: one frame, five files."""

import streamlit as st

from voxelight.app.ui.marks import ICON, show_frame

st.set_page_config(page_title="Voxelight", page_icon=ICON, layout="wide")
page = st.navigation(
    [
        st.Page("pages/upload.py", title="Upload", icon=":material/upload_file:", default=True),
        st.Page("pages/jobs.py", title="Jobs", icon=":material/play_circle:"),
        st.Page("pages/results.py", title="Results", icon=":material/imagesmode:"),
        st.Page("pages/models.py", title="Models", icon=":material/hub:"),
        st.Page("pages/about.py", title="About", icon=":material/info:"),
    ],
    position="top",
)
st.logo(ICON, size="large")
show_frame()
page.run()
