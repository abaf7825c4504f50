"""Ask for a job: a recipe, a data set, which scans, with what seed and options."""

import uuid
from typing import Any, get_args

import streamlit as st

from voxelight.app.schemas import DatasetAnswer, JobRequest, RecipeAnswer, ScanAnswer
from voxelight.app.services import Services
from voxelight.app.ui.marks import mark_random, mark_simulated
from voxelight.app.ui.problems import build, show_problem
from voxelight.app.ui.wording import DECODING, KINDS, PRESETS, STOPS, plain, say_hash, say_weights
from voxelight.models.errors import VoxelightError
from voxelight.neuro.profiles.options import DType, GenerationOptions

# What a recipe of a kind takes from a data set, and which of it a person picks by hand.
_RESPONSES = ("betas", "series", "volume", "events")
TAKEN = {"segment": ("volume",), "reconstruct": (*_RESPONSES, "picture"), "decode": (*_RESPONSES, "picture")}
PICKED = {"segment": ("volume",), "reconstruct": _RESPONSES, "decode": _RESPONSES}
QUEUES = {None: "GPU where there is one, else CPU", "cpu": "CPU", "gpu": "GPU"}
_LISTED = 500


def show_form(services: Services) -> None:
    """Ask for a job and submit it once."""
    recipes = {recipe.name: recipe for recipe in services.jobs.list_recipes()}
    datasets = {dataset.name: dataset for dataset in services.datasets.list(limit=_LISTED).items}
    recipe = recipes[st.selectbox("Recipe", list(recipes), format_func=lambda name: recipes[name].title, key="recipe")]
    _show_recipe(recipe)
    dataset = datasets[st.selectbox("Data set", list(datasets), key="job-dataset")]
    scans = _list_scans(services, dataset, recipe)
    _show_holdings(dataset, recipe, scans)
    chosen = _ask_scans(recipe, scans)
    try:
        request = build(
            JobRequest,
            kind=recipe.kind,
            recipe=recipe.name,
            dataset=dataset.name,
            scans=[scan.id for scan in chosen] if len(chosen) < len(scans) else [],
            **_ask_options(recipe, chosen),
        )
    except VoxelightError as error:
        show_problem(error)
        return
    _submit(services, request)


def _show_recipe(recipe: RecipeAnswer) -> None:
    mark_random(recipe.random_weights)
    st.markdown(plain(recipe.summary))
    weights = say_hash(recipe.weights_sha256) if recipe.weights_sha256 else say_weights(recipe)
    licence = f" · licence {plain(recipe.licence)}" if recipe.licence else ""
    st.caption(f"{KINDS[recipe.kind]} · model {plain(recipe.model)} · weights {weights}{licence}")


def _list_scans(services: Services, dataset: DatasetAnswer, recipe: RecipeAnswer) -> list[ScanAnswer]:
    found: list[ScanAnswer] = []
    for kind in TAKEN[recipe.kind]:
        cursor = None
        while True:
            page = services.scans.list(dataset.name, kind=kind, limit=_LISTED, cursor=cursor)
            found += page.items
            if (cursor := page.next_cursor) is None:
                break
    return found


def _show_holdings(dataset: DatasetAnswer, recipe: RecipeAnswer, scans: list[ScanAnswer]) -> None:
    counts = {KINDS[kind]: sum(scan.kind == kind for scan in scans) for kind in TAKEN[recipe.kind]}
    found = ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
    with st.container(horizontal=True, vertical_alignment="center"):
        mark_simulated(dataset.simulated)
        st.caption(f"Fits this recipe: {found}." if found else "Holds no file that fits this recipe.")
    if recipe.kind in DECODING and (dataset.consent == "none" or not dataset.purpose.strip()):
        st.warning(
            "This data set names no consent or no purpose, so it can't be decoded. Add both under Consent and purpose "
            "on the page Upload.",
            icon=":material/lock:",
        )


def _ask_scans(recipe: RecipeAnswer, scans: list[ScanAnswer]) -> list[ScanAnswer]:
    """Return the scans to take; pictures come along with the subject they were shown to."""
    subjects = sorted({scan.subject for scan in scans})
    if len(subjects) > 1:
        subject = st.selectbox("Subject", subjects, index=None, placeholder="All subjects", key="job-subject")
        scans = [scan for scan in scans if subject in (None, scan.subject)]
    choices = {str(scan.id): scan for scan in scans if scan.kind in PICKED[recipe.kind]}
    picked = st.multiselect(
        "Scans",
        list(choices),
        format_func=lambda scan: _name_scan(choices[scan]),
        placeholder="All that fit",
        key=f"scans-{recipe.kind}",
        help="Leave it empty to take every scan that the recipe can take.",
    )
    if not picked:
        return scans
    beside = [scan for scan in scans if scan.kind not in PICKED[recipe.kind]]
    return [choices[scan] for scan in picked] + beside


def _ask_options(recipe: RecipeAnswer, scans: list[ScanAnswer]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    with st.expander("Seed, queue and options", icon=":material/tune:"):
        seed = st.number_input("Seed", min_value=0, value=0, step=1, key="seed", help="The same seed, the same result.")
        queue = st.selectbox("Queue", list(QUEUES), format_func=QUEUES.__getitem__, key="queue")
        if recipe.kind == "reconstruct":
            options = _ask_permutations()
        elif recipe.kind == "decode":
            options = _ask_generation()
    if recipe.kind in DECODING:
        options |= _ask_mask(scans)
    return {"seed": int(seed), "queue": queue, "options": options}


def _ask_permutations() -> dict[str, Any]:
    permutations = st.number_input(
        "Permutations of the null",
        min_value=0,
        value=None,
        step=100,
        placeholder="As the recipe says",
        key="permutations",
        help="Draws of the null, B in p = (1 + b) / (1 + B).",
    )
    return {} if permutations is None else {"permutations": int(permutations)}


def _ask_generation() -> dict[str, Any]:
    """Ask how far to decode, how often and how carefully; what is left alone is not sent."""
    default = GenerationOptions()
    asked = {
        "stop": st.selectbox("Decode up to", list(STOPS), list(STOPS).index("refined"), STOPS.__getitem__, key="stop"),
        "samples": int(st.number_input("Samples of each stimulus", 1, 16, 1, key="samples")),
        "preset": st.selectbox(
            "Sampling",
            list(PRESETS),
            format_func=PRESETS.__getitem__,
            key="preset",
            help="Fast takes fewer steps; its pictures differ from those of the published sampling.",
        ),
        "dtype": st.selectbox("Precision", list(get_args(DType)), key="dtype"),
    }
    return {name: value for name, value in asked.items() if value != getattr(default, name)}


def _ask_mask(scans: list[ScanAnswer]) -> dict[str, str]:
    """Ask which 3-D image marks the region, where that is not plain."""
    masks = {str(scan.id): scan for scan in scans if scan.kind == "volume"}
    if len(masks) < 2 or not any(scan.kind == "series" for scan in scans):
        return {}
    mask = st.selectbox(
        "Mask of the 4-D image",
        list(masks),
        index=None,
        format_func=lambda scan: _name_scan(masks[scan]),
        placeholder="Choose the region of interest",
        key="mask",
    )
    return {"mask": mask} if mask else {}


def _submit(services: Services, request: JobRequest) -> None:
    """Submit under a key that belongs to this very request: a second click finds the first one's job."""
    draft = st.session_state.get("draft")
    if draft is None or draft["request"] != request:
        draft = st.session_state["draft"] = {"request": request, "key": str(uuid.uuid4()), "job": None}
    sent = draft["job"] is not None
    if st.button("Submit job", type="primary", icon=":material/play_arrow:", key="submit", disabled=sent):
        try:
            draft["job"] = services.jobs.submit(request, draft["key"]).id
        except VoxelightError as error:
            show_problem(error)
        else:
            st.rerun()
    if sent:
        st.success("Submitted: follow it in the list.", icon=":material/check:")
        if st.button("Prepare the same again", type="tertiary", icon=":material/replay:"):
            del st.session_state["draft"]
            st.rerun()


def _name_scan(scan: ScanAnswer) -> str:
    return f"{scan.name} (subject {scan.subject}, session {scan.session})"
