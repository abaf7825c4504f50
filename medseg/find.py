"""Find what a recipe is for in a whole head, wherever that lies and however it is tilted."""

from voxelight.medseg.head import HeadTemplate, PlacedHead, place_head, refuse_cut
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.segment import Prepared, prepare
from voxelight.medseg.transforms import grid_of_region
from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap, Volume

_LEAST_ML = 0.3  # of all labels of a side; a hippocampus that disease has shrunk most still has 0.8 ml or so


def prepare_head(volume: Volume, recipe: SegmentationRecipe, template: HeadTemplate) -> tuple[Prepared, PlacedHead]:
    """Align a head to the template, and bring the regions of a recipe to what its networks read.

    The regions are moved into the head and not the head into the template, so that the image is resampled once, and
    `label` gives its answer on the head's own grid.

    Parameters
    ----------
    volume : Volume (1, i, j, k), RAS+, T1-weighted
    recipe : with regions in MNI152 mm
    template : HeadTemplate

    Raises
    ------
    BadInput
        The image is no T1-weighted head, or its field cuts a region off.
    """
    placed = place_head(volume, template)
    for region in recipe.regions:
        refuse_cut(placed.volume, grid_of_region(region, recipe.spacing_mm), f"{region.prefix.strip()} side")
    return prepare(volume, recipe, placed.registration.to_fixed), placed


def refuse_empty(label_map: LabelMap, recipe: SegmentationRecipe) -> None:
    """Refuse an answer in which a side has next to nothing.

    Raises
    ------
    BadInput
        A region has less than 0.3 ml of labels.
    """
    volumes = label_map.volumes_ml()
    for region in recipe.regions:
        found = sum(value for name, value in volumes.items() if name.startswith(region.prefix))
        if found < _LEAST_ML:
            raise BadInput(
                f"{found:.2f} ml on the {region.prefix.strip()} side",
                f"at least {_LEAST_ML} ml on each",
                "Look at the image: it may be damaged there, or no T1-weighted head in the position its header says.",
            )
