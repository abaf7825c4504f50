"""Recipes over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import Label, Page, RecipeAnswer, ScanQuery
from voxelight.app.schemas_jobs import RecipeCardAnswer, ScanChoice

router = APIRouter(tags=["recipes"])


class ChoiceQuery(ScanQuery):
    """Which scans of which data set."""

    dataset: Label


@router.get("/recipes")
def list_recipes(services: Door) -> Page[RecipeAnswer]:
    """List the recipes that a job can name."""
    return Page(items=list(services.recipes.list()), next_cursor=None)


@router.get("/recipes/{name}")
def show_recipe(services: Door, name: str) -> RecipeCardAnswer:
    """Show a recipe with the card of its model, its licence, what an item takes and what to mind."""
    return services.recipes.show(name)


@router.get("/recipes/{name}/scans")
def list_choices(services: Door, name: str, asked: Annotated[ChoiceQuery, Query()]) -> Page[ScanChoice]:
    """List the scans of a data set that a job of this recipe would choose from, all at once."""
    query = ScanQuery(**asked.model_dump(exclude={"dataset"}))
    return Page(items=list(services.recipes.find_scans(name, asked.dataset, query)), next_cursor=None)
