"""Packaged recipes."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from voxelight.models.errors import NotFound
from voxelight.neuro.betas import NORMALISATIONS
from voxelight.neuro.recipes import ReconstructionRecipe, find_recipe, list_recipes
from voxelight.neuro.splits import UNITS


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_says_what_it_is_and_builds_its_decoder(name):
    recipe = find_recipe(name)
    assert recipe.name == name
    assert recipe.title
    assert recipe.summary.endswith(".")
    assert recipe.normalisation in NORMALISATIONS
    assert recipe.unit in UNITS
    assert recipe.decoder_config().alphas


def test_the_three_recipes_of_the_first_slice_are_there():
    assert {"miyawaki-ridge", "miyawaki2008-bold", "simulated-ridge"} <= set(list_recipes())


def test_unknown_recipe_names_the_known_ones():
    with pytest.raises(NotFound, match="miyawaki-ridge"):
        find_recipe("mindeye9")


@pytest.mark.parametrize(
    "options",
    [{"alpha": 1}, {"normalisation": "test-rows"}, {"unit": "trial"}, {"n_folds": 1}, {"seed": -1}, {"source": "nsd"}],
)
def test_recipes_refuse_unknown_words(options):
    with pytest.raises(ValidationError):
        ReconstructionRecipe(name="x", title="x", summary="x", **options)


def test_listing_recipes_imports_no_torch():
    code = (
        "import sys; from voxelight.neuro.recipes import find_recipe, list_recipes; "
        "[find_recipe(name).decoder_config() for name in list_recipes()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
