"""Jobs: submit one, watch them all, or look at one."""

import streamlit as st

from voxelight.app.ui.joblist import show_jobs
from voxelight.app.ui.jobview import show_job
from voxelight.app.ui.marks import show_empty
from voxelight.app.ui.notices import offer_notifications
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.submission import show_form
from voxelight.app.web import current_services

services = current_services()
chosen = st.query_params.get("job")
with problems_shown():
    if chosen:
        st.title("Job")
        if st.button("All jobs", icon=":material/arrow_back:", type="tertiary"):
            del st.query_params["job"]
            st.rerun()
        show_job(services, chosen)
    else:
        st.title("Jobs")
        form, jobs = st.columns([2, 3], gap="large")
        with form:
            st.subheader("New job")
            if services.datasets.list(limit=1).items:
                show_form(services)
            else:
                show_empty("A job works on a data set, and there is none yet.", "screens/upload.py", "Upload files")
        with jobs:
            st.subheader("All jobs")
            offer_notifications()
            show_jobs(services)
