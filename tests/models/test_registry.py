import subprocess
import sys

import pytest

from voxelight.models.errors import NotFound
from voxelight.models.registry import SEGMENTERS, find_config


def test_a_name_outside_the_table_is_answered_with_those_inside():
    with pytest.raises(NotFound, match=r"agunet, attention_unet, .*swin_unetr"):
        find_config(SEGMENTERS, "resnet")


def test_an_empty_table_says_so():
    with pytest.raises(NotFound, match=r"\(none\)"):
        find_config({}, "agunet")


def test_tables_and_recipes_are_read_without_torch():
    code = """
import sys
import voxelight.models.registry
from voxelight.medseg.recipes import list_recipes
from voxelight.models.weights import WEIGHTS, weights_sha256
assert [weights_sha256(recipe.weights) for recipe in list_recipes() if recipe.weights in WEIGHTS]
assert not {"torch", "monai", "nibabel"} & set(sys.modules), "imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
