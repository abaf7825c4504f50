"""What every way of training a segmentation network shares: the recipe that is meant, and what is kept of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelight.app.pipelines.segmenters import KnownRecipe, find_known
from voxelight.app.provenance import find_revision
from voxelight.app.schemas import NOTICE
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.recipes.training import Training
from voxelight.models.errors import BadInput, NotFound
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


def find_start(name: str | None, network: str, weights: Path) -> KnownRecipe | None:
    """Return what a training of a network is to start from, without reading it; None: from fresh weights.

    Parameters
    ----------
    name : a recipe whose weights ship, or a model of the installation
    network : that is to be trained
    weights : folder of all weights of an installation

    Raises
    ------
    NotFound
        There are no weights of this name.
    BadInput
        They are of another network, or of several folds.
    """
    if name is None:
        return None
    try:
        known = find_known(weights, name)
    except NotFound as error:
        raise NotFound(f"the weights {name!r} to start from", error.expected, error.remedy) from None
    if known.recipe.network != network:
        raise BadInput(f"{name}, weights of {known.recipe.network}, to start a training of {network} from",
                       "weights of the same network", "Name others, or train that network.")  # fmt: skip
    if known.folds > 1:
        raise BadInput(f"{name}, a model of {known.folds} folds, to start from", "a model of one set of weights",
                       "Train one on everything, and start from it.")  # fmt: skip
    return known


def read_start(recipe: SegmentationRecipe, weights: Path) -> "dict[str, Tensor] | None":
    """Return the weights that a training is to start from; None for fresh ones.

    Parameters
    ----------
    recipe : its training options name them
    weights : folder of all weights of an installation

    Raises
    ------
    NotFound, BadInput
        As `find_start`.
    Unavailable, Conflict
        A file is missing, or not the one that was written.
    """
    known = find_start(recipe.training.start_from if recipe.training else None, recipe.network, weights)
    return known.load()[0] if known else None


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
    licence = f"as the data: {data['licence'] or 'not stated'}"
    if recipe.training is not None and recipe.training.start_from is not None:
        licence += f"; as {recipe.training.start_from}, which it started from"
    return TrainedModel(
        recipe=kept,
        sha256s=tuple(hashlib.sha256(content).hexdigest() for content in contents),
        licence=licence,
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
        f"{facts.get('device', 'unknown device')} |\n{_tell_start(training)}\n## Scores\n\n{scores}"
    )


def _tell_start(training: Training | None) -> str:
    if training is None or training.start_from is None:
        return ""
    trap = "where that had seen cases that were held out here, scores are too good"
    return f"| started from | {training.start_from}; {trap} |\n"


def _times(sides: tuple[float, float, float]) -> str:
    return " x ".join(f"{side:g}" for side in sides)
