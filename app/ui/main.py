"""The page: one frame, a file for each screen."""

import streamlit as st

from voxelight.app.ui.deletion import show_last_deletion
from voxelight.app.ui.marks import ICON, show_frame
from voxelight.app.ui.navigation import navigate
from voxelight.app.ui.notices import show_notices
from voxelight.app.web import current_services

st.set_page_config(page_title="Voxelight", page_icon=ICON, layout="wide")
page, screen = navigate()
st.logo(ICON, size="large")
show_frame(screen)
show_notices(current_services())
show_last_deletion(current_services())
page.run()
