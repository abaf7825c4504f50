"""Upload: say where files belong, and see at once what they are."""

import streamlit as st

from voxelight.app.services import Services
from voxelight.app.ui.held import show_held
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.recordings import register_folder
from voxelight.app.ui.targets import add_dataset, choose_target, has_datasets
from voxelight.app.ui.tour import show_tour
from voxelight.app.ui.uploads import (
    LARGE,
    choose_way,
    come_back,
    list_newest,
    list_stored,
    receive_files,
    show_large,
)
from voxelight.app.web import current_services


def take_small(services: Services) -> None:
    """Ask where files belong on the left, take them on the right, show what is there below."""
    come_back()
    where, what = st.columns([2, 3], gap="large")
    with where:
        st.subheader("Where they belong")
        target = choose_target(services)
    with what:
        st.subheader("Files")
        if target:
            receive_files(services, target)
        else:
            st.caption("Create a data set first.")
    if target:
        register_folder(services, target.dataset.name)
        st.divider()
        show_held(services, target.dataset.name)
        list_stored(services, target.dataset.name)


def take_large(services: Services) -> None:
    """Leave the question where files belong to the part that runs in the browser by itself."""
    dataset = show_large()
    add_dataset(services)
    st.divider()
    if dataset:
        show_held(services, dataset)
    list_newest(services)


st.title("Upload")
services = current_services()
with problems_shown():
    show_tour(services)
    if has_datasets(services) and choose_way() == LARGE:
        take_large(services)
    else:
        take_small(services)
