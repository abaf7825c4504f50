"""Seed, queue, priority and options of a job."""

from collections.abc import Sequence
from typing import Any, get_args

import streamlit as st

from voxelight.app.schemas import PRIORITIES
from voxelight.app.schemas_jobs import RecipeCardAnswer, ScanChoice
from voxelight.app.ui.drafts import Draft
from voxelight.app.ui.glmform import ask_estimation
from voxelight.app.ui.scanchoice import name_scan
from voxelight.app.ui.wording import DECODING, PRESETS, STOPS, plain
from voxelight.neuro.profiles.options import DType, GenerationOptions

_LINEAR_STOPS = {"tokens": "Tokens", "caption": "Caption", "refined": "Pictures"}
_LARGEST = 2**53 - 1  # a browser knows no larger whole number for certain
QUEUES = {None: "GPU where there is one, else CPU", "cpu": "CPU", "gpu": "GPU"}


def ask_settings(draft: Draft, recipe: RecipeCardAnswer, scans: Sequence[ScanChoice]) -> dict[str, Any]:
    """Ask how a job is done; options of a copied job that no field asks for stay."""
    asked: dict[str, Any] = {}
    with st.expander("Seed, queue, priority and options", icon=":material/tune:", expanded=draft.request is not None):
        seed = _ask_seed(draft)
        queues = list(QUEUES)
        queue = st.selectbox(
            "Queue", queues, draft.place("queue", queues) or 0, QUEUES.__getitem__, key=draft.key("queue")
        )
        priority = ask_priority(draft.start("priority", 0), draft.key("priority"))
        if recipe.kind == "reconstruct":
            asked = _ask_permutations(draft)
        elif recipe.kind == "decode":
            asked = _ask_linear(draft, recipe.generators) if recipe.generators else _ask_generation(draft)
        elif recipe.kind == "glm":
            asked = ask_estimation(draft, recipe.name, scans)
        kept = _find_kept(draft, recipe, asked)
        if kept:
            st.caption(f"Kept from the copied job: {plain(kept)}.")
    if recipe.kind in DECODING:
        asked |= _ask_mask(draft, scans)
    options = kept | {name: value for name, value in asked.items() if value is not None}
    return {"seed": seed, "queue": queue, "priority": priority, "options": options}


def _ask_seed(draft: Draft) -> int:
    start: int = draft.start("seed", 0)
    if start > _LARGEST:
        st.caption(f"Seed {start}, kept from the copied job.")
        return start
    return int(
        st.number_input(
            "Seed",
            min_value=0,
            max_value=_LARGEST,
            value=start,
            step=1,
            key=draft.key("seed"),
            help="The same seed, the same result.",
        )
    )


def ask_priority(start: int, key: str, **more: Any) -> int:
    """Ask how soon a job is done among those that wait."""
    choices = sorted(PRIORITIES, reverse=True)
    priority: int = st.selectbox(
        "Priority",
        choices,
        choices.index(start),
        lambda number: PRIORITIES[number].capitalize(),
        key=key,
        help="Among jobs that wait on one queue, the higher goes first; of equal ones the older.",
        **more,
    )
    return priority


def _find_kept(draft: Draft, recipe: RecipeCardAnswer, asked: dict[str, Any]) -> dict[str, Any]:
    if draft.request is None:
        return {}
    known = recipe.options.get("properties", {})
    hidden = {"mask", *asked}
    return {name: value for name, value in draft.request.options.items() if name in known and name not in hidden}


def _ask_permutations(draft: Draft) -> dict[str, Any]:
    permutations = st.number_input(
        "Permutations of the null",
        min_value=0,
        value=draft.option("permutations", None),
        step=100,
        placeholder="As the recipe says",
        key=draft.key("permutations"),
        help="Draws of the null, B in p = (1 + b) / (1 + B).",
    )
    return {"permutations": None if permutations is None else int(permutations)}


def _ask_linear(draft: Draft, generators: Sequence[str]) -> dict[str, Any]:
    """Ask how far a linear decoder goes, and by which generator."""
    stops, start = list(_LINEAR_STOPS), draft.option("stop", "refined")
    stop = st.selectbox("Decode up to", stops, stops.index(start if start in stops else "refined"),
                        _LINEAR_STOPS.__getitem__, key=draft.key("stop"))  # fmt: skip
    wish = draft.option("generator", generators[0])
    wish = wish if wish in generators else generators[0]
    generator = st.selectbox(
        "Pictures by", generators, generators.index(wish), key=draft.key("generator"),
        help="Its checkpoint lies on the server; first-guess is the ridge to small pictures and needs none.",
    )  # fmt: skip
    samples = int(
        st.number_input("Samples of each stimulus", 1, 16, draft.option("samples", 1), key=draft.key("samples"))
    )
    asked = {"stop": (stop, "refined"), "generator": (generator, generators[0]), "samples": (samples, 1)}
    return {name: value if value != usual else None for name, (value, usual) in asked.items()}


def _ask_generation(draft: Draft) -> dict[str, Any]:
    """Ask how far to decode, how often and how carefully; what is left alone is not sent."""
    default = GenerationOptions()
    stops, presets, dtypes = list(STOPS), list(PRESETS), list(get_args(DType))
    asked = {
        "stop": st.selectbox(
            "Decode up to",
            stops,
            stops.index(draft.option("stop", "refined")),
            STOPS.__getitem__,
            key=draft.key("stop"),
        ),
        "samples": int(
            st.number_input("Samples of each stimulus", 1, 16, draft.option("samples", 1), key=draft.key("samples"))
        ),
        "preset": st.selectbox(
            "Sampling",
            presets,
            presets.index(draft.option("preset", presets[0])),
            PRESETS.__getitem__,
            key=draft.key("preset"),
            help="Fast takes fewer steps; its pictures differ from those of the published sampling.",
        ),
        "dtype": st.selectbox(
            "Precision", dtypes, dtypes.index(draft.option("dtype", default.dtype)), key=draft.key("dtype")
        ),
    }
    return {name: value if value != getattr(default, name) else None for name, value in asked.items()}


def _ask_mask(draft: Draft, scans: Sequence[ScanChoice]) -> dict[str, str]:
    """Ask which 3-D image marks the region, where that is not plain."""
    masks = {str(scan.id): scan for scan in scans if scan.kind == "volume"}
    if len(masks) < 2 or not any(scan.kind == "series" for scan in scans):
        return {}
    wanted = draft.option("mask", None)
    mask = st.selectbox(
        "Mask of the 4-D image",
        list(masks),
        index=list(masks).index(wanted) if wanted in masks else None,
        format_func=lambda scan: name_scan(masks[scan]),
        placeholder="Choose the region of interest",
        key=draft.key("mask"),
    )
    return {"mask": mask} if mask else {}
