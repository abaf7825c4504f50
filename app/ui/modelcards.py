"""Cards of the models that ship with the software."""

from importlib.resources import files

from voxelight.models.weights import WEIGHTS


def read_card(model: str) -> str | None:
    """Return the text of a model's card, where one ships."""
    if model not in WEIGHTS:
        return None
    card = files("voxelight.models.shipped") / WEIGHTS[model].card
    return card.read_text("utf-8") if card.is_file() else None
