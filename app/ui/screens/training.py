"""Training: fit a network to a data set, and watch its curve."""

import streamlit as st

from voxelight.app.ui.decoderform import ask_decoder
from voxelight.app.ui.joblist import show_head
from voxelight.app.ui.marks import show_empty
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.trainingform import ask_training
from voxelight.app.ui.trainingview import show_training
from voxelight.app.ui.wording import plain, say_time
from voxelight.app.web import current_services

FORMS = {"Segmentation": ask_training, "Decoder": ask_decoder}

services = current_services()
chosen = st.query_params.get("job")
st.title("Training")
with problems_shown():
    if chosen:
        if st.button("All trainings", icon=":material/arrow_back:", type="tertiary"):
            del st.query_params["job"]
            st.rerun()
        show_training(services, chosen)
    elif not services.datasets.list(limit=1).items:
        show_empty("A training works on a data set, and there is none yet.", "screens/upload.py", "Upload files")
    else:
        form, jobs = st.columns([2, 3], gap="large")
        with form:
            st.subheader("New training")
            what = st.segmented_control("What is trained", list(FORMS), default="Segmentation", key="training-what")
            FORMS[what or "Segmentation"](services)
        with jobs:
            st.subheader("Trainings")
            found = services.trainings.list()
            if not found:
                st.caption("None yet. Choose a data set with label maps, or with betas and pictures, and start one.")
            for job in found:
                with st.container(border=True, key=f"training-{job.id}"):
                    show_head(job)
                    if st.button("Open", key=f"open-{job.id}", icon=":material/monitoring:"):
                        st.query_params["job"] = str(job.id)
                        st.rerun()
                    st.caption(f"Model {plain(job.model)}, submitted {say_time(job.created_at)}")
