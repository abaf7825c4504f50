"""Models: what can do the work, with the hash of its weights and its licence."""

import streamlit as st

from voxelight.app.schemas import NOTICE
from voxelight.app.schemas_jobs import RecipeCardAnswer
from voxelight.app.ui.marks import mark_random
from voxelight.app.ui.modelcards import show_card, show_facts
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.wording import KIND_COLOURS, KINDS, plain, say_hash, say_time
from voxelight.app.web import current_services


def show_recipe(recipe: RecipeCardAnswer) -> None:
    """Show a recipe with its model's card."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.subheader(plain(recipe.title), anchor=False, width="content")
            st.badge(KINDS[recipe.kind], color=KIND_COLOURS[recipe.kind])
            mark_random(recipe.random_weights)
        st.markdown(plain(recipe.summary))
        show_facts(recipe, whole_hash=True)
        show_card(recipe)


st.title("Models")
services = current_services()
with problems_shown():
    st.caption(f"A recipe names a model and everything around it. {NOTICE}")
    st.subheader("Recipes")
    for each in services.recipes.list():
        show_recipe(services.recipes.show(each.name))
    st.subheader("Models that have worked here")
    models = services.results.list_models()
    if models:
        rows = [
            {
                "Model": model.name,
                "Version": model.version,
                "Task": model.task,
                "Weights": "random" if model.config.get("random_weights") else say_hash(model.weights_sha256),
                "Licence": model.licence or "not stated",
                "First used": say_time(model.created_at),
            }
            for model in models
        ]
        st.table(rows, hide_index=True, border="horizontal")
    else:
        st.caption("None yet: a model is named here once a job has used it.")
