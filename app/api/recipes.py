"""Recipes over HTTP."""

from fastapi import APIRouter

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import Page, RecipeAnswer, RecipeCardAnswer

router = APIRouter(tags=["recipes"])


@router.get("/recipes")
def list_recipes(services: Door) -> Page[RecipeAnswer]:
    """List the recipes that a job can name."""
    return Page(items=list(services.recipes.list()), next_cursor=None)


@router.get("/recipes/{name}")
def show_recipe(services: Door, name: str) -> RecipeCardAnswer:
    """Show a recipe with the card of its model, its licence, what an item takes and what to mind."""
    return services.recipes.show(name)
