"""Ask for a training and submit it once."""

import uuid
from typing import Any

import streamlit as st

from voxelight.app.schemas import JobRequest
from voxelight.app.services import Services
from voxelight.app.ui.jobsettings import QUEUES
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.notices import watch
from voxelight.app.ui.problems import build, show_problem
from voxelight.app.ui.wording import plain
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.models.registry import SEGMENTERS

FOLDS = {
    "first": "Hold one fold out, and score it",
    "all": "Every fold in turn; the model averages them",
    "none": "Train on everyone, score nobody",
}
LISTED = 500
_PLANNED = "train-planned"
_OWN = "The recipe's"
_FRESH = "Fresh weights"


def ask_training(services: Services) -> None:
    """Ask for data set, recipe and options; submit."""
    datasets = [dataset.name for dataset in services.datasets.list(limit=LISTED).items]
    recipes = {row.name: row for row in services.recipes.list() if row.kind == "train-segmenter"}
    holds = "For NAME.nii.gz it holds NAME_dseg.nii.gz in the same session."
    dataset = st.selectbox("Data set", datasets, key="training-dataset", help=holds)
    recipe = st.selectbox("Recipe", list(recipes), format_func=lambda name: recipes[name].title, key="training-recipe")
    st.caption(f"{plain(recipes[recipe].summary)} {tell_more('training')}")
    options: dict[str, Any] = {"folds": st.selectbox("Folds", list(FOLDS), format_func=FOLDS.__getitem__, key="folds")}
    name = st.text_input("Name of the model", key="training-name", placeholder="Made from the recipe", max_chars=120)
    labels = st.text_input("Labels", key="labels", placeholder="1=anterior, 2=posterior") if recipe == _PLANNED else ""
    with st.expander("Network, steps, seed and queue", icon=":material/tune:"):
        network = st.selectbox("Network", [_OWN, *sorted(SEGMENTERS)], key="training-network")
        models = sorted({row.model for row in services.recipes.list() if row.kind == "segment"})
        start = st.selectbox("Start from", [_FRESH, *models], key="training-start", help="Of the same network.")
        steps = st.number_input("Gradient steps", 1, None, None, placeholder="As the recipe says", key="training-steps")
        seed = st.number_input("Seed", 0, None, 0, help="0: the recipe's.", key="training-seed")
        queue = st.selectbox("Queue", list(QUEUES), format_func=QUEUES.__getitem__, key="training-queue")
    try:
        options |= {"labels": _read_labels(labels)} if labels.strip() else {}
        options |= {"name": name.strip()} if name.strip() else {}
        options |= {"network": network} if network != _OWN else {}
        options |= {"steps": int(steps)} if steps else {}
        options |= {"training": {"start_from": start}} if start != _FRESH else {}
        request = build(JobRequest, kind="train-segmenter", recipe=recipe, dataset=dataset, seed=int(seed), queue=queue,
                        options=options)  # fmt: skip
    except VoxelightError as error:
        show_problem(error)
        return
    if st.button("Start training", type="primary", icon=":material/model_training:"):
        submit_training(services, request)


def submit_training(services: Services, request: JobRequest) -> None:
    """Submit a training once, and open it; a refusal is shown and nothing is submitted."""
    sending = st.session_state.get("training-sending")
    if sending is None or sending["request"] != request:
        sending = st.session_state["training-sending"] = {"request": request, "key": str(uuid.uuid4())}
    try:
        job = services.jobs.submit(request, sending["key"])
    except VoxelightError as error:
        show_problem(error)
        return
    del st.session_state["training-sending"]
    watch(job.id)
    st.query_params["job"] = str(job.id)
    st.rerun()


def _read_labels(text: str) -> dict[str, str]:
    """Return number -> name of a line like ``1=anterior, 2=posterior``.

    Raises
    ------
    BadInput
        A part is no number and name.
    """
    found = {}
    for part in text.split(","):
        number, _, name = part.partition("=")
        if not number.strip().isdigit() or not name.strip():
            raise BadInput(f"the label {part.strip()!r}", "a number and a name, as in 1=anterior", "Correct it.")
        found[number.strip()] = name.strip()
    return found
