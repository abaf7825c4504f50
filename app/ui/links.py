"""Ways from one page to another, each with what it is about in its address."""

import streamlit as st
from streamlit.errors import StreamlitAPIException

from voxelight.app.documents import find_address


def link_page(screen: str, label: str, icon: str, help: str = "", **about: str) -> None:  # as Streamlit's
    """Link to a page by the name of its file, where it stands in the navigation."""
    try:
        st.page_link(
            f"screens/{screen}.py", label=label, icon=f":material/{icon}:", query_params=about, help=help or None
        )
    except StreamlitAPIException:
        return


def tell_more(document: str, anchor: str = "", name: str = "More") -> str:
    """Return a link to a part of the documents, for texts in markdown."""
    return f"[{name}]({find_address(document, anchor)})"
