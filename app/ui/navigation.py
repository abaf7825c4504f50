"""Every page with its place in the navigation and the part of the documents that explains it."""

from dataclasses import dataclass

import streamlit as st
from streamlit.navigation.page import StreamlitPage


@dataclass(frozen=True)
class Screen:
    """A page: its file, what it is called, its icon, and which document helps with it."""

    file: str
    title: str
    icon: str
    document: str
    anchor: str = ""


# Not in a folder called pages: Streamlit would run its files by themselves, without the frame, at an address that
# is opened before the navigation is known.
SCREENS = (
    Screen("upload", "Upload", "upload_file", "uploads"),
    Screen("jobs", "Jobs", "play_circle", "page", "jobs"),
    Screen("training", "Training", "model_training", "training"),
    Screen("results", "Results", "imagesmode", "page", "results"),
    Screen("compare", "Compare", "compare_arrows", "page", "compare"),
    Screen("viewer", "Viewer", "view_in_ar", "viewer"),
    Screen("explore", "Explore", "travel_explore", "explore"),
    Screen("export", "Export", "archive", "page", "export"),
    Screen("review", "Review", "rate_review", "review", "review"),
    Screen("followup", "Follow-up", "timeline", "review", "follow-up"),
    Screen("models", "Models", "hub", "page", "models"),
    Screen("about", "About", "info", "README"),
)


def navigate() -> tuple[StreamlitPage, Screen]:
    """Put the navigation on the page; return the page that was chosen, in both forms."""
    pages = [
        st.Page(f"screens/{each.file}.py", title=each.title, icon=f":material/{each.icon}:", default=each is SCREENS[0])
        for each in SCREENS
    ]
    chosen = st.navigation(pages, position="top")
    return chosen, next(screen for screen in SCREENS if screen.title == chosen.title)
