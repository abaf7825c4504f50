import pytest
from pydantic import ValidationError

from voxelight.app.pipelines.segmenters import find_known
from voxelight.medseg.losses import LOSSES
from voxelight.medseg.recipes import find_recipe, list_recipes
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.train import build_network
from voxelight.models.errors import NotFound


def test_recipes_are_found_by_the_name_they_are_listed_under():
    names = [recipe.name for recipe in list_recipes()]
    assert names == sorted(names)
    assert {"hippocampus-agunet", "hippocampus-mni"} <= set(names)
    assert all(find_recipe(name).name == name for name in names)


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_says_what_it_is_for_and_what_not(recipe):
    assert recipe.title
    assert "Not for clinical use" in recipe.summary


def test_an_unknown_recipe_is_answered_with_those_known():
    with pytest.raises(NotFound, match=r"hippocampus-agunet, .*hippocampus-mni"):
        find_recipe("hippocampus")


@pytest.mark.parametrize("wrong", [{"threshold": 0.5}, {"overlap": 1.0}, {"normalisation": {"method": "rank"}}])
def test_a_recipe_refuses_options_that_it_does_not_know(wrong):
    facts = find_recipe("hippocampus-agunet").model_dump()
    with pytest.raises(ValidationError):
        SegmentationRecipe.model_validate(facts | wrong)


def test_a_recipe_with_regions_names_the_labels_of_each():
    assert find_recipe("hippocampus-agunet").output_labels == {1: "anterior", 2: "posterior"}
    assert find_recipe("hippocampus-mni").output_labels == {
        1: "left anterior",
        2: "left posterior",
        3: "right anterior",
        4: "right posterior",
    }


def test_recipes_that_share_weights_share_the_network():
    crop, head = find_recipe("hippocampus-agunet"), find_recipe("hippocampus-mni")
    shared = ("network", "config", "weights", "labels", "spacing_mm", "normalisation", "patch")
    assert all(getattr(crop, name) == getattr(head, name) for name in shared)


@pytest.mark.parametrize("recipe", [recipe for recipe in list_recipes() if recipe.training], ids=lambda each: each.name)
def test_a_recipe_that_is_trained_builds_its_network_for_its_labels(recipe):
    network = build_network(recipe)
    assert network.config.classes == len(recipe.labels) + 1
    flat = getattr(network.config, "spatial_dims", 3) == 2
    assert (recipe.training.window[2] == 1) == (recipe.patch[2] == 1) == flat
    assert recipe.training.loss in LOSSES


def test_weights_that_do_not_ship_are_trained_first(tmp_path):
    with pytest.raises(NotFound, match="voxelight train lungs-jsrt"):
        find_known(tmp_path, "lungs-jsrt")
