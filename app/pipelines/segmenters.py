"""Segmentation recipes that a job can name: those that ship, and the models of this installation. No torch."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from voxelight.medseg.recipes import find_recipe, list_recipes
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import NotFound
from voxelight.models.weights import WEIGHTS, load_weights
from voxelight.storage.trained import TrainedModel, TrainedModels

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class KnownRecipe:
    """A recipe with what is known of its weights.

    Parameters
    ----------
    recipe : what is computed
    model : name of the weights
    sha256 : of the weights
    licence : SPDX identifier, or what is known of the terms
    load : reads the tensors after checking their hashes, one state a fold
    folds : how many weights are averaged
    """

    recipe: SegmentationRecipe
    model: str
    sha256: str
    licence: str
    load: "Callable[[], list[dict[str, Tensor]]]"
    folds: int = 1


def list_known(weights: Path) -> list[KnownRecipe]:
    """Return every recipe whose weights ship, then the models of an installation.

    Parameters
    ----------
    weights : folder of weights of the installation
    """
    shipped = [_describe(recipe) for recipe in list_recipes() if recipe.weights in WEIGHTS]
    trained = TrainedModels(weights)
    return [*shipped, *(_describe_trained(trained, model) for model in trained.list())]


def find_known(weights: Path, name: str) -> KnownRecipe:
    """Return one of `list_known`.

    Raises
    ------
    NotFound
        There is none of this name, or its weights do not ship.
    BadInput
        The description of the model is damaged.
    """
    trained = TrainedModels(weights)
    if trained.has(name):
        return _describe_trained(trained, trained.find(name))
    recipe = find_recipe(name)
    if recipe.weights not in WEIGHTS:
        raise NotFound(f"the recipe {name!r}, whose weights do not ship", "a recipe with weights",
                       f"Train it, `voxelight train {name}`, and name the model that comes out.")  # fmt: skip
    return _describe(recipe)


def _describe(recipe: SegmentationRecipe) -> KnownRecipe:
    names = (recipe.weights, *recipe.ensemble)
    licence = WEIGHTS[recipe.weights].licence
    return KnownRecipe(
        recipe, recipe.weights, _hash(names), licence, lambda: [load_weights(name) for name in names], len(names)
    )


def _describe_trained(trained: TrainedModels, model: TrainedModel) -> KnownRecipe:
    load = partial(trained.load, model.name)
    return KnownRecipe(model.recipe, model.name, model.sha256, model.licence, load, len(model.sha256s))


def _hash(names: Sequence[str]) -> str:
    """Return the hash of one file of weights; of several that of the lines of ``sha256sum``."""
    if len(names) == 1:
        return WEIGHTS[names[0]].sha256
    lines = "".join(f"{WEIGHTS[name].sha256}  {WEIGHTS[name].file}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()
