"""About: what runs here, whether it answers, and what it must not be used for."""

import streamlit as st

from voxelight.app.schemas import DECODING_NOTICE
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.tour import bring_back
from voxelight.app.ui.wording import plain
from voxelight.app.ui.workers import show_workers
from voxelight.app.web import current_services

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

st.title("About")
services = current_services()
with problems_shown():
    health = services.check_health()
    version, database, cpu, gpu = st.columns(4)
    version.metric("Version", health.version, border=True)
    database.metric("Database", DATABASES.get(health.database, health.database), border=True)
    cpu.metric("Waiting for a CPU", health.queued.get("cpu", 0), border=True, help="Jobs on the queue cpu")
    gpu.metric("Waiting for a GPU", health.queued.get("gpu", 0), border=True, help="Jobs on the queue gpu")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("Show the first steps", icon=":material/tour:", help="A tour with sample data"):
            bring_back()
            st.switch_page("screens/upload.py")
        st.markdown(tell_more("README", name="All documents"), width="content")
    show_workers(services)
    st.subheader("Where things are")
    if services.principal is None or services.principal.admin:
        st.markdown(
            f"Data folder: `{services.settings.home.resolve()}`  \nFiles: `{services.settings.shown_blobs_url}`"
        )
    st.markdown(
        "The same over HTTP: [/api/v1/health](/api/v1/health), described in [/api/openapi.json](/api/openapi.json)"
    )
    st.subheader("What this is")
    st.markdown(
        "Voxelight segments medical images and decodes brain activity to pictures. Both run as jobs on a durable "
        "queue; every result keeps its recipe, seed, input hashes and weights hash, so that it can be made again."
    )
    st.subheader("What this is not")
    st.markdown(
        f"- {plain(health.notice)} It is no medical device, and no result may guide diagnosis or treatment.\n"
        f"- {plain(DECODING_NOTICE)} A decoded picture shows what a model finds most likely from measured responses, "
        "under the conditions that stand beside its scores.\n"
        "- Decoding asks for consent and purpose; without them such a job is refused."
    )
