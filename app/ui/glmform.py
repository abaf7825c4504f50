"""What an estimation of betas asks beside its preset."""

from collections.abc import Sequence
from typing import Any, get_args

import streamlit as st

from voxelight.app.schemas_jobs import ScanChoice
from voxelight.app.ui.drafts import Draft
from voxelight.app.ui.scanchoice import name_scan
from voxelight.neuro.glm.options import GlmOptions, find_preset
from voxelight.storage.formats.fmri.bold import name_run

ESTIMATES = {
    "ridge": "All trials at once, shrunk by fractional ridge",
    "lsa": "All trials at once",
    "lss": "Each trial against the sum of the others",
}
RESPONSES = {"library": "The likeliest of a library, voxel by voxel", "canonical": "SPM's canonical response"}
NOISES = {"ar1": "Autoregressive, first order", "ols": "White"}
_WORDS = {"estimate": ESTIMATES, "hrf": RESPONSES, "noise": NOISES}
_TITLES = {"estimate": "Estimate", "hrf": "Response", "noise": "Noise"}


def ask_estimation(draft: Draft, preset: str, scans: Sequence[ScanChoice]) -> dict[str, Any]:
    """Ask what differs from the preset; what is left alone is not sent."""
    name = st.text_input(
        "Name of the data set of betas", draft.option("name", None) or "", key=draft.key("glm-name"), max_chars=120,
        placeholder="That of this data set, with -betas",
    ).strip()  # fmt: skip
    stimulus = st.text_input(
        "Column of the events that says what was shown", draft.option("stimulus", None) or "",
        key=draft.key("glm-stimulus"), placeholder="Found by its name",
    ).strip()  # fmt: skip
    confounds = st.text_input(
        "Confounds to take out",
        " ".join(draft.option("confounds", ())),
        key=draft.key("glm-confounds"),
        placeholder="The six of motion",
        help="Names of columns with spaces between; * stands for any letters. `none` takes out none.",
    ).split()
    return {
        "name": name or None,
        "stimulus": stimulus or None,
        "confounds": [] if confounds == ["none"] else confounds or None,
        "mask": _ask_mask(draft, scans),
        "held_out": _ask_held_out(draft, scans) or None,
        "model": _ask_model(draft, find_preset(preset)) or None,
    }


def _ask_mask(draft: Draft, scans: Sequence[ScanChoice]) -> str | None:
    masks = {str(scan.id): scan for scan in scans if scan.kind == "volume"}
    wanted = draft.option("mask", None)
    mask: str | None = st.selectbox(
        "Mask",
        list(masks),
        index=list(masks).index(wanted) if wanted in masks else None,
        format_func=lambda scan: name_scan(masks[scan]),
        placeholder="The files named _mask of each subject",
        key=draft.key("glm-mask"),
    )
    return mask


def _ask_held_out(draft: Draft, scans: Sequence[ScanChoice]) -> list[str]:
    runs = sorted(f"{scan.subject}/{scan.session}/{name_run(scan.name)}" for scan in scans if scan.kind == "series")
    held: list[str] = st.multiselect(
        "Runs held out of every choice",
        runs,
        default=[run for run in draft.option("held_out", ()) if run in runs],
        placeholder="None",
        key=draft.key("glm-held-out"),
        help="Betas of these runs carry nothing of which stimuli they showed: take those that a decoder is tested on.",
    )
    return held


def _ask_model(draft: Draft, preset: GlmOptions) -> dict[str, Any]:
    start = GlmOptions.model_validate(preset.model_dump() | draft.option("model", {}))
    asked: dict[str, Any] = {}
    for name, words in _WORDS.items():
        choices = list(get_args(GlmOptions.model_fields[name].annotation))
        asked[name] = st.selectbox(
            _TITLES[name],
            choices,
            choices.index(getattr(start, name)),
            words.__getitem__,
            key=draft.key(f"glm-{name}"),
        )
    asked["denoise"] = st.checkbox(
        "Take noise components out",
        start.denoise,
        key=draft.key("glm-denoise"),
        help="Principal components of voxels without a response, as many as predict held-out runs best.",
    )
    kept: dict[str, Any] = draft.option("model", {})
    return {name: value for name, value in {**kept, **asked}.items() if name in kept or value != getattr(preset, name)}
