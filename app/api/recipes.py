"""Recipes over HTTP."""

from fastapi import APIRouter

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import Page, RecipeAnswer

router = APIRouter(tags=["recipes"])


@router.get("/recipes")
def list_recipes(services: Door) -> Page[RecipeAnswer]:
    """List the recipes that a job can name."""
    return Page(items=services.jobs.list_recipes(), next_cursor=None)
