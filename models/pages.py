"""The style of every page that is written as one file and asks nobody for anything."""

from importlib.resources import files


def read_style() -> str:
    """Return the style sheet of reports, with colours by day and by night."""
    return files("voxelight.models").joinpath("page.css").read_text("utf-8")
