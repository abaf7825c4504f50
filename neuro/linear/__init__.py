"""Linear decoders of published systems, one TOML file each: target spaces, penalties, generators. Imports no torch."""

from voxelight.models.packaged import list_packaged, read_packaged
from voxelight.neuro.linear.recipe import LinearRecipe

__all__ = ["LinearRecipe", "find_linear_recipe", "list_linear_recipes"]


def list_linear_recipes() -> tuple[str, ...]:
    """Return the names of the packaged linear decoders, sorted."""
    return list_packaged(__name__)


def find_linear_recipe(name: str) -> LinearRecipe:
    """Return a packaged linear decoder.

    Raises
    ------
    NotFound
        No linear decoder has this name.
    """
    return LinearRecipe(name=name, **read_packaged(__name__, name, "linear decoder"))
