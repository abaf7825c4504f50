"""Cards of the models that ship with the software."""

from functools import cache
from importlib.resources import files


@cache
def read_card(model: str) -> str | None:
    """Return the text of a model's card, where one ships."""
    shipped = files("voxelight.models.shipped")
    for entry in shipped.iterdir():
        if entry.name == f"{model}.md":
            return entry.read_text("utf-8")
    return None
