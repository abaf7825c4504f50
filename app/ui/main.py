"""The page: one frame, a file for each screen."""

import streamlit as st

from voxelight.app.ui.account import ask_who_looks, show_account
from voxelight.app.ui.deletion import show_last_deletion
from voxelight.app.ui.marks import ICON, show_frame
from voxelight.app.ui.navigation import navigate
from voxelight.app.ui.notices import show_notices

st.set_page_config(page_title="Voxelight", page_icon=ICON, layout="wide")
services = ask_who_looks()
page, screen = navigate()
st.logo(ICON, size="large")
show_frame(screen)
show_account(services)
with st.container():  # always there: what comes and goes above a page draws the page anew, and a press on it is lost
    show_notices(services)
    show_last_deletion(services)
page.run()
