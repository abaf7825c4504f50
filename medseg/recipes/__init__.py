"""Segmentation recipes: what turns a network and weights into an answer. Imports no torch."""

import tomllib
from importlib.resources import files

from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import NotFound

_FOLDER = files(__name__)


def list_recipes() -> list[SegmentationRecipe]:
    """Return every packaged recipe, by name."""
    return [find_recipe(name) for name in _names()]


def find_recipe(name: str) -> SegmentationRecipe:
    """Return a packaged recipe.

    Raises
    ------
    NotFound
        No recipe has this name.
    """
    if name not in _names():
        raise NotFound(f"the segmentation recipe {name!r}", f"one of {', '.join(_names())}", "Correct the name.")
    return SegmentationRecipe.model_validate(tomllib.loads(_FOLDER.joinpath(f"{name}.toml").read_text("utf-8")))


def _names() -> list[str]:
    return sorted(entry.name.removesuffix(".toml") for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))
