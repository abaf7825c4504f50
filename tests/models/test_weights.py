import hashlib
from importlib.resources import files

import pytest
import torch
from safetensors import safe_open

from voxelight.models.errors import Conflict, NotFound
from voxelight.models.registry import SEGMENTERS, find_config
from voxelight.models.weights import WEIGHTS, find_weights, load_weights, verify, weights_sha256

SHIPPED = files("voxelight.models.shipped")


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_ship_are_those_recorded(name):
    known = find_weights(name)
    content = SHIPPED.joinpath(known.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == weights_sha256(name)
    assert len(content) < 9_000_000
    assert load_weights(name)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_ship_with_their_card_and_licence(name):
    card = SHIPPED.joinpath(find_weights(name).card).read_text("utf-8")
    assert "not for clinical use" in card.lower()
    assert find_weights(name).licence in card
    assert SHIPPED.joinpath(find_weights(name).card).with_suffix(".LICENSE").is_file()


def test_weights_are_stored_in_half_precision():
    with safe_open(str(SHIPPED.joinpath("hippocampus-agunet.safetensors")), "pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert kinds == {torch.float16, torch.int64}


def test_changed_weights_are_refused_with_both_hashes():
    known = find_weights("hippocampus-agunet")
    content = bytearray(SHIPPED.joinpath(known.file).read_bytes())
    content[-1] ^= 1
    with pytest.raises(Conflict) as refusal:
        verify(bytes(content), known)
    assert hashlib.sha256(content).hexdigest() in str(refusal.value)
    assert known.sha256 in str(refusal.value)


def test_unknown_weights_are_answered_with_those_known():
    with pytest.raises(NotFound, match="hippocampus-agunet"):
        load_weights("liver")


def test_every_recipe_finds_weights_that_fit_its_network():
    from voxelight.medseg.recipes import list_recipes

    for recipe in (recipe for recipe in list_recipes() if recipe.weights in WEIGHTS):
        network = find_config(SEGMENTERS, recipe.network)(**recipe.config).build()
        network.load_state_dict(load_weights(recipe.weights))
