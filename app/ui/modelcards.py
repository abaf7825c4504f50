"""Cards of recipes: what they do, with which weights under which licence, what an item takes, what to mind."""

import streamlit as st

from voxelight.app.schemas import NOTICE
from voxelight.app.schemas_jobs import CostAnswer, RecipeCardAnswer
from voxelight.app.ui.wording import KINDS, plain, say_hash, say_precisely, say_weights

_TALLEST = 480


def show_facts(recipe: RecipeCardAnswer, whole_hash: bool = False) -> None:
    """Show kind, model, weights and licence of a recipe, what an item takes and what to mind."""
    shown = recipe.weights_sha256 if whole_hash else say_hash(recipe.weights_sha256)
    weights = f"`{shown}`" if recipe.weights_sha256 else say_weights(recipe)
    licence = plain(recipe.licence) if recipe.licence else "none needed, nothing ships"
    st.caption(
        f"{KINDS[recipe.kind]} · recipe `{recipe.name}` · model {plain(recipe.model)} · weights (sha256) {weights} · "
        f"licence {licence}"
    )
    for cost in recipe.costs:
        st.caption(f":material/timer: {plain(say_cost(cost))}")
    if not recipe.costs:
        st.caption(":material/timer: Time and memory: no estimate yet, no item of it was done or measured.")
    for warning in recipe.warnings:
        if warning != NOTICE:
            st.caption(f":material/warning: {plain(warning)}")


def show_card(recipe: RecipeCardAnswer) -> None:
    """Offer the card of a recipe's model, where one ships."""
    if recipe.card:
        with st.expander("Model card", icon=":material/description:"), st.container(height=_TALLEST, border=False):
            st.markdown(recipe.card)


def say_cost(cost: CostAnswer) -> str:
    """Return what an item takes, and how that is known."""
    time = f"{say_precisely(cost.seconds_an_item)} an item" if cost.seconds_an_item is not None else ""
    memory = f"{cost.memory_gib:.1f} GiB of memory" if cost.memory_gib is not None else ""
    return f"On {cost.queue.upper()} about {' and '.join(filter(None, (time, memory)))} ({cost.source})"
