"""What a segmentation job can set beside its recipe, and what comes of it. No torch."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import BadInput


class SegmentOptions(BaseModel):
    """How a recipe is applied; what is left out is as the recipe says.

    Parameters
    ----------
    mirror : average every window with its mirror images
    folds : how many of the weights of an ensemble are averaged; all of them where it is left out
    temperature : probabilities p become p^(1/T); changes no label on the network's grid, only how certain it is
    smallest_ml : pieces of a label with less volume are left out
    fill_holes : give holes to the label around them
    half : compute in half precision; on a GPU only
    confidence : store the probability of each voxel's label as an image
    uncertainty : store how uncertain each voxel is as an image, by what the recipe names
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: bool | None = Field(None, description="average every window with its mirror images")
    folds: int | None = Field(None, ge=1, description="weights of an ensemble that are averaged; left out: all")
    temperature: float | None = Field(None, gt=0, le=100, description="above 1: less certain; 1: as the network is")
    smallest_ml: float | None = Field(None, ge=0, description="pieces of a label with less volume are left out")
    fill_holes: bool | None = Field(None, description="give holes to the label around them")
    half: bool = Field(False, description="compute in half precision; on a GPU only")
    confidence: bool = Field(False, description="store the probability of each voxel's label as an image")
    uncertainty: bool = Field(False, description="store how uncertain each voxel is as an image, 0 to 1")

    def apply(self, recipe: SegmentationRecipe) -> SegmentationRecipe:
        """Return the recipe as it is to be applied."""
        wishes = {
            "mirror_average": self.mirror,
            "temperature": self.temperature,
            "smallest_ml": self.smallest_ml,
            "fill_holes": self.fill_holes,
        }
        return recipe.model_copy(update={name: value for name, value in wishes.items() if value is not None})

    def count_folds(self, there: int) -> int:
        """Return how many weights are averaged.

        Raises
        ------
        BadInput
            More are asked for than there are.
        """
        if self.folds is not None and self.folds > there:
            raise BadInput(f"{self.folds} folds", f"at most the {there} that the recipe has", "Ask for fewer.")
        return self.folds or there


def describe_inference(recipe: SegmentationRecipe, folds: int, half: bool) -> dict[str, Any]:
    """Return what was done beside the network, as provenance keeps it."""
    return {
        "folds": folds,
        "mirror_axes": sorted(set(recipe.mirror_axes)) if recipe.mirror_average else [],
        "temperature": recipe.temperature,
        "uncertainty": recipe.uncertainty,
        "smallest_ml": recipe.smallest_ml,
        "fill_holes": recipe.fill_holes,
        "patch": list(recipe.patch),
        "overlap": recipe.overlap,
        "precision": "half" if half else "single",
    }
