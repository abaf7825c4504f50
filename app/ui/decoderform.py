"""Ask for the training of a decoder: whose betas, which recipe, how many sessions, and what it starts from."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from voxelight.app.schemas import JobRequest, RecipeAnswer
from voxelight.app.services import Services
from voxelight.app.ui.jobsettings import QUEUES
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.problems import build, show_problem
from voxelight.app.ui.trainingform import LISTED, submit_training
from voxelight.app.ui.wording import plain
from voxelight.models.errors import VoxelightError
from voxelight.models.published import PUBLISHED
from voxelight.neuro.linear import find_linear_recipe
from voxelight.neuro.linear.recipe import WORDS
from voxelight.neuro.profiles import find_profile, list_profiles
from voxelight.neuro.training.recipe import find_training_recipe

_PREFIX, _PRETRAINED = "train-", "final_multisubject"
_SESSIONS: dict[int | None, str] = {
    None: "As the recipe says, as far as there are so many",
    1: "1 (one hour)",
    2: "2",
    5: "5",
    10: "10",
    40: "40",
}
_HELD_OUT = {
    "auto": "Pictures marked as shared, else some at random",
    "shared": "Pictures marked as shared",
    "random": "A tenth of the pictures, at random",
    "cluster_k5_0": "The largest of five clusters of pictures",
    "tau": "A tenth, and none like them is trained on",
    "ood": "The tenth that is least like the others, or what is marked so",
}


def ask_decoder(services: Services) -> None:
    """Ask for data set, recipe and options; submit."""
    datasets = [dataset.name for dataset in services.datasets.list(limit=LISTED).items]
    rows = services.recipes.list()
    recipes = {row.name: row for row in rows if row.kind in ("train-decoder", "train-linear")}
    holds = "It holds betas of one subject or more, with the pictures that were seen."
    dataset = st.selectbox("Data set", datasets, key="decoder-dataset", help=holds)
    recipe = st.selectbox("Recipe", list(recipes), format_func=lambda name: recipes[name].title, key="decoder-recipe")
    st.caption(f"{plain(recipes[recipe].summary)} {tell_more('decoders')}")
    kind = recipes[recipe].kind
    options = _ask_linear(recipe) if kind == "train-linear" else _ask_options(recipe, rows)
    name = st.text_input("Name of the decoder", key="decoder-name", placeholder="Made from the recipe", max_chars=120)
    with st.expander("Length, seed and queue", icon=":material/tune:"):
        training = {} if kind == "train-linear" else _ask_length()
        seed = st.number_input("Seed", 0, None, 0, help="0: the recipe's.", key="decoder-seed")
        queue = st.selectbox("Queue", list(QUEUES), format_func=QUEUES.__getitem__, key="decoder-queue")
    options |= {"name": name.strip()} if name.strip() else {}
    options |= {"training": training} if training else {}
    try:
        request = build(JobRequest, kind=kind, recipe=recipe, dataset=dataset, seed=int(seed), queue=queue,
                        options=options)  # fmt: skip
    except VoxelightError as error:
        show_problem(error)
        return
    if st.button("Start training", type="primary", icon=":material/model_training:", key="decoder-start"):
        submit_training(services, request)


def _ask_length() -> dict[str, int]:
    """Ask how long is trained."""
    asked = {
        "epochs": st.number_input("Epochs", 2, None, None, placeholder="As the recipe says", key="decoder-epochs"),
        "batch": st.number_input("Trials of a subject in a batch", 1, None, None, placeholder="As the recipe says",
                                 key="decoder-batch"),
    }  # fmt: skip
    return {key: int(value) for key, value in asked.items() if value}


def _ask_linear(recipe: str) -> dict[str, Any]:
    """Ask whom a linear decoder is fitted to, and to which spaces of pictures."""
    known = find_linear_recipe(recipe.removeprefix(_PREFIX))
    made = [space for space in known.targets if known.makes(space) and space != WORDS]
    spaces = st.multiselect("Spaces", made, made, key="decoder-spaces", help="What betas are mapped to. That of words "
                            "takes captions: voxelight linear train.")  # fmt: skip
    subject = st.text_input("Subject", key="decoder-subject", placeholder="The only one of the data set; else a label")
    held_out = st.selectbox("Held out, and scored", list(_HELD_OUT), format_func=_HELD_OUT.__getitem__,
                            key="decoder-held-out")  # fmt: skip
    asked = {"spaces": spaces, "subject": subject.strip()}
    return {"held_out": held_out} | {key: value for key, value in asked.items() if value}


def _ask_options(recipe: str, rows: Sequence[RecipeAnswer]) -> dict[str, Any]:
    """Ask what decides the decoder beside its recipe; what is left as it is, is left out."""
    profiles = [name for name in list_profiles() if find_profile(name).trainable]
    profile = st.selectbox(
        "Tokens of the profile", profiles, _place_first(profiles), key="decoder-profile",
        help="Which image tokens are predicted. Its networks draw pictures and say captions from them.",
    )  # fmt: skip
    options: dict[str, Any] = {"profile": profile}
    if find_training_recipe(recipe.removeprefix(_PREFIX)).start == "multisubject":
        trained = [row.name for row in rows if row.kind == "decode" and row.name not in profiles]
        known = [*trained, *(name for name in PUBLISHED if name.startswith(_PRETRAINED))]
        options["start_from"] = st.selectbox("Start from", known, key="decoder-start-from",
                                             help="A decoder of many subjects, trained here or published.")  # fmt: skip
    subjects = st.text_input(
        "Subjects", key="decoder-subjects", placeholder="All of the data set; else labels with commas between them"
    )
    sessions = st.selectbox("Sessions of each subject", list(_SESSIONS), format_func=_SESSIONS.__getitem__,
                            key="decoder-sessions")  # fmt: skip
    rank = st.number_input("Rank of an adapter", 1, None, None, placeholder="None: a full map of every voxel",
                           key="decoder-rank", help="Few numbers a subject, for little data.")  # fmt: skip
    held_out = st.selectbox("Held out, and scored", list(_HELD_OUT), format_func=_HELD_OUT.__getitem__,
                            key="decoder-held-out")  # fmt: skip
    labels = [label.strip() for label in subjects.split(",") if label.strip()]
    asked = {"subjects": labels or None, "sessions": sessions, "adapter_rank": int(rank) if rank else None}
    return options | {key: value for key, value in asked.items() if value} | {"held_out": held_out}


def _place_first(profiles: list[str]) -> int:
    return next((profiles.index(name) for name in ("tiny", "mindeye2") if name in profiles), 0)
