"""What stands on every page, and beside everything that could be misread without it."""

from html import escape
from pathlib import Path

import streamlit as st

from voxelight.app.documents import find_address
from voxelight.app.schemas import DECODING_NOTICE, NOTICE, RANDOM_NOTICE
from voxelight.app.ui.navigation import Screen
from voxelight.app.ui.wording import STATUS_COLOURS, STATUS_ICONS

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="6" fill="#1f5f8b"/><g fill="#fff">'
    '<rect x="6" y="6" width="6" height="6" opacity=".45"/><rect x="13" y="6" width="6" height="6" opacity=".8"/>'
    '<rect x="20" y="6" width="6" height="6" opacity=".45"/><rect x="6" y="13" width="6" height="6" opacity=".8"/>'
    '<rect x="13" y="13" width="6" height="6"/><rect x="20" y="13" width="6" height="6" opacity=".8"/>'
    '<rect x="6" y="20" width="6" height="6" opacity=".25"/><rect x="13" y="20" width="6" height="6" opacity=".8"/>'
    '<rect x="20" y="20" width="6" height="6" opacity=".25"/></g></svg>'
)
_STYLE = Path(__file__).with_name("style.css")
_SCRIPT = f"<script>{Path(__file__).with_name('frame.js').read_text(encoding='utf-8')}</script>"


def show_frame(screen: Screen) -> None:
    """Put style, the notice and the way to the help of this page on the page."""
    st.html(_STYLE)
    st.html(_SCRIPT, unsafe_allow_javascript=True)
    st.html(
        f'<div class="vx-banner" role="note"><strong>{NOTICE}</strong> Research software.'
        f'<a href="{find_address(screen.document, screen.anchor)}" target="_blank" rel="noopener">'
        f"Help on {escape(screen.title)}</a></div>"
    )


def show_status(status: str) -> None:
    """Show the state of a job or of an item."""
    st.badge(
        status.capitalize(),
        icon=STATUS_ICONS[status],
        color=STATUS_COLOURS[status],  # type: ignore[arg-type]  # names of its colours
    )


def mark_simulated(simulated: bool) -> None:
    """Say so wherever data were made by a model."""
    if simulated:
        st.badge("Simulated data", icon=":material/science:", color="violet")


def mark_random(random_weights: bool) -> None:
    """Say so wherever a network has learnt nothing."""
    if random_weights:
        st.badge("Random weights: means nothing", icon=":material/casino:", color="red")


def note_decoding(random_weights: bool = False) -> None:
    """Say what a decoded picture is."""
    st.caption(f":material/info: {RANDOM_NOTICE if random_weights else DECODING_NOTICE}")


def show_empty(text: str, page: str = "", label: str = "") -> None:
    """Say what to do where there is nothing to see yet."""
    with st.container(border=True):
        st.markdown(text)
        if page:
            st.page_link(page, label=label, icon=":material/arrow_forward:")
