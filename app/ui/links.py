"""Ways from one page to another, each with what it is about in its address."""

import streamlit as st
from streamlit.errors import StreamlitAPIException


def link_page(screen: str, label: str, icon: str, help: str = "", **about: str) -> None:  # as Streamlit's
    """Link to a page by the name of its file, where it stands in the navigation."""
    try:
        st.page_link(
            f"screens/{screen}.py", label=label, icon=f":material/{icon}:", query_params=about, help=help or None
        )
    except StreamlitAPIException:
        return
