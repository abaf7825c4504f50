"""Review: accept, reject or doubt results case by case; the group; the agreement of two reviewers."""

import streamlit as st

from voxelight.app.schemas import NOTICE
from voxelight.app.ui.marks import mark_random, mark_simulated, show_empty
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.quality import choose_job, show_agreement, show_group, show_review
from voxelight.app.ui.wording import DECODING
from voxelight.app.web import current_services

PARTS = ("Cases", "Group report", "Agreement")

st.title("Review")
services = current_services()
with problems_shown():
    job = choose_job(services, st.query_params.get("job"))
    if job is None:
        show_empty("There is nothing to review yet. Submit a job first.", "screens/jobs.py", "Submit a job")
    else:
        st.query_params["job"] = str(job.id)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            mark_simulated(job.simulated)
            mark_random(job.random_weights)
            st.caption(job.notice if job.kind in DECODING else NOTICE, width="content")
        part = st.segmented_control("Part", PARTS, default=PARTS[0], key="review-part", label_visibility="collapsed")
        if part == PARTS[1]:
            show_group(services, job)
        elif part == PARTS[2]:
            show_agreement(services, job)
        else:
            show_review(job, st.query_params.get("result"))
