"""Follow-up: one subject's structures over time, with intervals, flagged only beyond what measuring again gives."""

import streamlit as st

from voxelight.app.schemas import NOTICE
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.marks import mark_simulated, show_empty
from voxelight.app.ui.overtime import ask_knowledge, choose_series, show_followup
from voxelight.app.ui.problems import problems_shown
from voxelight.app.web import current_services

LISTED = 500

st.title("Follow-up")
services = current_services()
with problems_shown():
    datasets = {each.name: each for each in services.datasets.list(limit=LISTED).items}
    if not datasets:
        show_empty("There is no data set yet. Upload the sessions of a person first.", "screens/upload.py", "Upload")
    else:
        names = list(datasets)
        wish = st.query_params.get("dataset")
        if wish not in names:  # begin where there is something to follow
            wish = next((name for name in names if services.followup.list_series(name)), names[0])
        left, right = st.columns(2)
        with left:
            name = st.selectbox(
                "Data set",
                names,
                index=names.index(wish),
                key="followup-dataset",
                help=f"Where the sessions of the person lie. {tell_more('review', 'follow-up')}",
            )
        with right:
            series = choose_series(services, name, st.query_params.get("subject"))
        if series is None:
            show_empty(
                "Nothing of this data set was segmented yet. Submit a segmentation over all sessions of a person.",
                "screens/jobs.py",
                "Submit a job",
            )
        else:
            st.query_params.from_dict({"dataset": name, "subject": series.subject})
            mark_simulated(datasets[name].simulated)
            show_followup(services, services.followup.show(name, series.subject, ask_knowledge(series)))
            st.caption(NOTICE)
