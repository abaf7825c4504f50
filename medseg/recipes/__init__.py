"""Segmentation recipes: what turns a network and weights into an answer. Imports no torch."""

from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.packaged import list_packaged, read_packaged


def list_recipes() -> list[SegmentationRecipe]:
    """Return every packaged recipe, by name."""
    return [find_recipe(name) for name in list_packaged(__name__)]


def find_recipe(name: str) -> SegmentationRecipe:
    """Return a packaged recipe.

    Raises
    ------
    NotFound
        No recipe has this name.
    """
    return SegmentationRecipe.model_validate(read_packaged(__name__, name, "segmentation recipe"))
