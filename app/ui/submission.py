"""Ask for a job: a recipe, a data set, which scans, with what settings; submit it once."""

import uuid

import streamlit as st

from voxelight.app.schemas import JobRequest
from voxelight.app.services import Services
from voxelight.app.ui.drafts import Draft, open_draft
from voxelight.app.ui.jobsettings import ask_settings
from voxelight.app.ui.marks import mark_random
from voxelight.app.ui.modelcards import show_card, show_facts
from voxelight.app.ui.notices import watch
from voxelight.app.ui.problems import build, show_problem
from voxelight.app.ui.scanchoice import ask_scans
from voxelight.app.ui.wording import plain, say_many, say_seconds
from voxelight.models.errors import VoxelightError

_LISTED = 500


def show_form(services: Services) -> None:
    """Ask for a job and submit it once."""
    draft = open_draft(services)
    titles = {recipe.name: recipe.title for recipe in services.recipes.list()}
    datasets = {dataset.name: dataset for dataset in services.datasets.list(limit=_LISTED).items}
    names = list(titles)
    name = st.selectbox("Recipe", names, draft.place("recipe", names) or 0, titles.__getitem__, draft.key("recipe"))
    recipe = services.recipes.show(name)
    mark_random(recipe.random_weights)
    st.markdown(plain(recipe.summary))
    show_facts(recipe)
    show_card(recipe)
    known = list(datasets)
    chosen = st.selectbox("Data set", known, draft.place("dataset", known) or 0, key=draft.key("job-dataset"))
    choice, scans = ask_scans(services, draft, recipe, datasets[chosen])
    settings = ask_settings(draft, recipe, scans)
    try:
        request = build(
            JobRequest,
            kind=recipe.kind,
            recipe=recipe.name,
            dataset=chosen,
            cloned_from=draft.job,
            **(choice or {}),
            **settings,
        )
    except VoxelightError as error:
        show_problem(error)
        return
    if recipe.kind == "segment" and recipe.costs and choice is not None:
        cost = next((cost for cost in recipe.costs if cost.queue == request.queue), recipe.costs[0])
        items = sum(not scan.held for scan in scans)
        if cost.seconds_an_item is not None and items:
            left = say_seconds(items * cost.seconds_an_item)
            st.caption(f"{say_many(items, 'item')}, about {left} of work on {cost.queue.upper()}.")
    _submit(services, request, draft, ready=choice is not None)


def _submit(services: Services, request: JobRequest, draft: Draft, ready: bool) -> None:
    """Submit under a key that belongs to this very request: a second click finds the first one's job."""
    sending = st.session_state.get("draft")
    if sending is None or sending["request"] != request:
        sending = st.session_state["draft"] = {"request": request, "key": str(uuid.uuid4()), "job": None}
    sent = sending["job"] is not None
    if st.button(
        "Submit job", type="primary", icon=":material/play_arrow:", key=draft.key("submit"), disabled=sent or not ready
    ):
        try:
            job = services.jobs.submit(request, sending["key"])
        except VoxelightError as error:
            show_problem(error)
        else:
            sending["job"] = job.id
            watch(job.id)
            st.rerun()
    if sent:
        st.success("Submitted: follow it in the list.", icon=":material/check:")
        where = {"job": str(sending["job"])}
        st.page_link("screens/jobs.py", label="Open this job", icon=":material/visibility:", query_params=where)
        if st.button("Prepare the same again", type="tertiary", icon=":material/replay:"):
            del st.session_state["draft"]
            st.rerun()
