"""Ways from one page to another, each with what it is about in its address."""

from pathlib import Path

import streamlit as st

_SCREENS = Path(__file__).parent / "screens"


def link_page(screen: str, label: str, icon: str, help: str = "", **about: str) -> None:  # as Streamlit's
    """Link to a page by the name of its file, where there is one."""
    if (_SCREENS / f"{screen}.py").is_file():
        st.page_link(
            f"screens/{screen}.py", label=label, icon=f":material/{icon}:", query_params=about, help=help or None
        )
