"""What every way of training a segmentation network shares: the recipe that is meant, and what is kept of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelight.app.provenance import find_revision
from voxelight.app.schemas import NOTICE
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import BadInput
from voxelight.storage.formats.recipes import check_recipe, read_recipe
from voxelight.storage.trained import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor

_SUFFIX = ".toml"


@dataclass(frozen=True)
class Changes:
    """What may differ from a recipe.

    Parameters
    ----------
    network, config : another network; of its options, those that are named, with channels and classes as they were
    steps, seed : None: the recipe's
    training : further options of `medseg.recipes.training.Training`
    """

    network: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    seed: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def find_trainable(name: str) -> SegmentationRecipe:
    """Return a packaged recipe, or that of a file where the name ends in ``.toml``.

    Raises
    ------
    NotFound, BadInput
        There is none, or it can't be read.
    """
    return read_recipe(Path(name)) if name.endswith(_SUFFIX) else find_recipe(name)


def change_recipe(recipe: SegmentationRecipe, changes: Changes) -> SegmentationRecipe:
    """Return a recipe with what differs from it, checked as a whole.

    Raises
    ------
    BadInput
        It has no training options, or a change has no use.
    """
    if recipe.training is None:
        raise BadInput(f"recipe {recipe.name}, which has no training options", "a recipe with its own weights",
                       f"Train {recipe.weights}, whose weights it uses.")  # fmt: skip
    told: dict[str, Any] = recipe.model_dump()
    if changes.network is not None and changes.network != recipe.network:
        shared = {key: recipe.config[key] for key in ("in_channels", "classes") if key in recipe.config}
        told |= {"network": changes.network, "config": shared | dict(changes.config)}
    else:
        told["config"] = dict(recipe.config) | dict(changes.config)
    if changes.steps is not None:  # a trial does not settle for longer than it is trained
        told["training"] |= {"steps": changes.steps, "settling": min(changes.steps, recipe.training.settling)}
    told["training"] |= dict(changes.training)
    if changes.seed is not None:
        told["seed"] = changes.seed
    return check_recipe(told, recipe.name)


def pack_weights(weights: "Mapping[str, Tensor]", recipe: SegmentationRecipe) -> bytes:
    """Return weights as safetensors."""
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in weights.items()}, metadata={"recipe": recipe.name})


def describe_model(
    name: str, recipe: SegmentationRecipe, contents: list[bytes], data: Mapping[str, str], facts: Mapping[str, Any]
) -> TrainedModel:
    """Return a model as it is kept: its recipe under its own name, hashes, card and provenance.

    Parameters
    ----------
    name : of the model
    recipe : that it was trained by
    contents : safetensors, one a fold
    data : ``name``, ``licence`` and ``source`` of the data
    facts : ``device``, ``trained_on``, ``held_out``, ``dice`` (label -> interval) and whatever else is known
    """
    kept = recipe.model_copy(update={"name": name, "weights": name, "title": f"{recipe.title}, trained here"})
    licence = data["licence"] or "not stated"
    return TrainedModel(
        recipe=kept,
        sha256s=tuple(hashlib.sha256(content).hexdigest() for content in contents),
        licence=f"as the data: {licence}",
        source=data["source"] or data["name"],
        card=_write_card(kept, data, facts),
        provenance={
            **facts,
            "recipe": recipe.name,
            "seed": recipe.seed,
            "revision": find_revision(),
            "data": dict(data),
        },
    )


def _write_card(recipe: SegmentationRecipe, data: Mapping[str, str], facts: Mapping[str, Any]) -> str:
    training = recipe.training
    rows = "\n".join(
        f"| {label} | {found['estimate']:.4f} [{found['low']:.4f}, {found['high']:.4f}] | {found['persons']} |"
        for label, found in facts.get("dice", {}).items()
    )
    steps = facts.get("steps", training.steps if training else 0)
    scores = (
        "Mean Dice over persons that the weights had not seen, with a bootstrap 95 % interval over persons.\n\n"
        f"| label | Dice | persons |\n|---|---|---|\n{rows}\n"
        if rows
        else "Nothing was held out, so nothing is known about unseen cases.\n"
    )
    return (
        f"# {recipe.name}\n\nLabels {', '.join(recipe.labels.values())}. Trained on this installation. **{NOTICE}**\n\n"
        f"| | |\n|---|---|\n| network | {recipe.network} |\n| grid | {_times(recipe.spacing_mm)} mm |\n"
        f"| data | {data['name']}: {facts.get('trained_on', '?')} cases |\n"
        f"| source | {data['source'] or 'not stated'} |\n"
        f"| licence of the data | {data['licence'] or 'not stated'} |\n"
        f"| training | {steps} steps of {training.batch if training else '?'} crops, seed {recipe.seed}, "
        f"{facts.get('device', 'unknown device')} |\n\n## Scores\n\n{scores}"
    )


def _times(sides: tuple[float, float, float]) -> str:
    return " x ".join(f"{side:g}" for side in sides)
