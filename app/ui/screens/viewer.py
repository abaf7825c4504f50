"""Viewer: a volume with its label map, alone or beside another; the address of the page names them."""

import streamlit as st

from voxelight.app.services import Services
from voxelight.app.ui.faces import show_face
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.marks import mark_simulated, show_empty
from voxelight.app.ui.problems import problems_shown
from voxelight.app.ui.viewer import (
    FIRST,
    SECOND,
    Choice,
    list_choices,
    name_parameters,
    read_choice,
    show_viewer,
    view,
)
from voxelight.app.ui.wording import plain
from voxelight.app.web import current_services

HELP = "Label maps and images, the newest first. Older ones: open them from Results. " + tell_more("viewer")


def choose(label: str, key: str, choices: dict[Choice, str], named: Choice | None, needed: bool) -> Choice | None:
    """Ask for one of the choices; the one that the address names comes first."""
    options = list(choices)
    return st.selectbox(
        label,
        options,
        index=options.index(named) if named in options else 0 if needed else None,
        key=f"viewer-{key}",
        format_func=lambda choice: choices[choice],
        placeholder="Nothing beside it",
        help=HELP,
    )


def ask(services: Services) -> tuple[Choice, Choice | None] | None:
    """Ask what to show; None where there is nothing."""
    choices = list_choices(services)
    named = read_choice(st.query_params, FIRST), read_choice(st.query_params, SECOND)
    for choice in named:
        if choice and choice not in choices:
            shown = view(services, choice)
            choices[choice] = (
                f"{shown.title} · {shown.recipe or 'scan alone'} · {shown.dataset}, subject {shown.subject}"
            )
    if not choices:
        return None
    left, right = st.columns(2)
    with left:
        first = choose("Show", "first", choices, named[0], needed=True)
    with right:
        second = choose("Beside it, with one crosshair", "second", choices, named[1], needed=False)
    return (first, second) if first else None


st.title("Viewer")
services = current_services()
with problems_shown():
    chosen = ask(services)
    if chosen:
        parameters = name_parameters(*chosen)
        if dict(st.query_params) != parameters:
            st.query_params.from_dict(parameters)
        shown = view(services, chosen[0])
        mark_simulated(shown.simulated)
        show_viewer(plain(shown.title), parameters)
        if chosen[0][0] == "scan":
            show_face(services, chosen[0][1])
    else:
        show_empty(
            "There is no volume to look at yet. Upload a NIfTI image or a DICOM series.", "screens/upload.py", "Upload"
        )
