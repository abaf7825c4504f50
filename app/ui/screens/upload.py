"""Upload: say where files belong, and see at once what they are."""

import streamlit as st

from voxelight.app.ui.held import show_held
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.targets import choose_target
from voxelight.app.ui.uploads import LARGE, choose_way, list_stored, receive_files, show_large
from voxelight.app.web import current_services

st.title("Upload")
services = current_services()
with problems_shown():
    where, what = st.columns([2, 3], gap="large")
    with where:
        st.subheader("Where they belong")
        target = choose_target(services)
    way = ""
    with what:
        st.subheader("Files")
        if target:
            way = choose_way()
            if way == LARGE:
                show_large(target)
            else:
                receive_files(services, target)
        else:
            st.caption("Create a data set first.")
    if target:
        st.divider()
        show_held(services, target.dataset.name)
        list_stored(services, target, live=way == LARGE)
