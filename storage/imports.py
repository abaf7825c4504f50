"""Models of others as models of this installation: nnU-Net v2 folders, MONAI bundles, Raidionics ONNX models."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import BadInput
from voxelight.storage.trained import TrainedModel, TrainedModels

if TYPE_CHECKING:
    from voxelight.models.checkpoints import Tensors

_MOST_JSON = 16 << 20


@dataclass(frozen=True)
class Wishes:
    """What a person says of a model that its files may not.

    Parameters
    ----------
    name : of the model here
    licence : SPDX identifier, or what is known of the terms; empty: what the files say
    folds : of nnU-Net; empty: all that are there
    configuration : of nnU-Net
    """

    name: str
    licence: str = ""
    folds: tuple[str, ...] = ()
    configuration: str = "3d_fullres"


@dataclass(frozen=True, eq=False)
class Foreign:
    """A model of another program, understood.

    Parameters
    ----------
    recipe : fields of a `SegmentationRecipe`, but for its name
    states : tensors by name, one state a fold
    origin : program and kind of folder
    source : what the files say of the data
    licence : what they say of the terms; empty: nothing
    differences : how its own program goes about it in another way, a sentence each
    """

    recipe: Mapping[str, Any]
    states: "Sequence[Tensors]"
    origin: str
    source: str
    licence: str
    differences: tuple[str, ...]


def import_model(folder: Path, wishes: Wishes, models: TrainedModels, replace: bool = False) -> TrainedModel:
    """Keep a model of another program in the home.

    Parameters
    ----------
    folder : of nnU-Net (``dataset.json``, ``plans.json``, ``fold_*``), a MONAI bundle (``configs``, ``models``), or of
        Raidionics (``model.onnx``, ``pre_processing.ini``)
    wishes : Wishes
    models : of the installation
    replace : put it in place of an earlier model of its name

    Raises
    ------
    BadInput
        The folder is of none of these programs, damaged, or asks for something that is not understood.
    Conflict
        A model or a packaged recipe has the name.
    """
    models.refuse_name(wishes.name, replace)
    read = _find_reader(folder)
    try:
        foreign = read(folder, wishes)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadInput(f"{folder.name}, whose files are not of their own layout ({type(error).__name__})",
                       "a folder as its program wrote it", "Copy the whole folder again.") from error  # fmt: skip
    _refuse_misfit(foreign, wishes.name)
    from safetensors.torch import save

    contents = [save({f"inner.{name}": value.contiguous().clone() for name, value in state.items()})
                for state in foreign.states]  # fmt: skip
    sha256s = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    recipe = _make_recipe(foreign, wishes.name)
    licence = wishes.licence or foreign.licence or "not stated"
    card = _write_card(recipe, foreign, licence)
    told = {"imported_from": foreign.origin, "differences": list(foreign.differences)}
    model = TrainedModel(recipe, sha256s, licence, foreign.source, foreign.origin, card, told)
    models.write(model, contents, replace)
    return model


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    BadInput
        It is not there, too large, or none.
    """
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ValueError("too large")
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path.name}, which can't be read ({type(error).__name__})", "a file of JSON",
                       "Copy the folder again.") from None  # fmt: skip
    if not isinstance(found, dict):
        raise BadInput(f"{path.name} with a {type(found).__name__}", "a JSON object", "Copy the folder again.")
    return found


def not_understood(what: str, expected: str) -> BadInput:
    """Return the refusal of a model that does something that we don't."""
    return BadInput(what, expected, "This model can't be imported; run it with its own program.")


def _find_reader(folder: Path) -> Callable[[Path, Wishes], Foreign]:
    if (folder / "plans.json").is_file() and (folder / "dataset.json").is_file():
        from voxelight.storage.import_nnunet import read_nnunet

        return read_nnunet
    if (folder / "configs" / "metadata.json").is_file():
        from voxelight.storage.import_monai import read_monai

        return read_monai
    if (folder / "model.onnx").is_file() and (folder / "pre_processing.ini").is_file():
        from voxelight.storage.import_raidionics import read_raidionics

        return read_raidionics
    raise BadInput(
        f"{folder}, which is no model folder that is known",
        "plans.json and dataset.json (nnU-Net v2), configs/metadata.json (MONAI bundle), or model.onnx and "
        "pre_processing.ini (Raidionics)",
        "Name the folder that holds these files.",
    )


def _make_recipe(foreign: Foreign, name: str) -> SegmentationRecipe:
    try:
        return SegmentationRecipe.model_validate({**foreign.recipe, "name": name, "weights": name})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise not_understood(f"a model whose {where} has no use here ({first['msg'].lower()})", "what a recipe can hold"
                             ) from None  # fmt: skip


def _refuse_misfit(foreign: Foreign, name: str) -> None:
    """Refuse weights that are not those of the network, before anything is kept."""
    from voxelight.models.registry import IMPORTED, find_config
    from voxelight.models.weights import load_into

    recipe = _make_recipe(foreign, name)
    try:
        config = find_config(IMPORTED, recipe.network)(**recipe.config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise not_understood(f"a network whose {'.'.join(map(str, first['loc']))} is {first['msg'].lower()}",
                             "a network that is known") from None  # fmt: skip
    network = config.build()
    for state in foreign.states:
        load_into(network, {f"inner.{key}": value for key, value in state.items()})


def _write_card(recipe: SegmentationRecipe, foreign: Foreign, licence: str) -> str:
    labels = "\n".join(f"* {number}: {name}" for number, name in recipe.labels.items())
    differences = "\n".join(f"* {line}" for line in foreign.differences) or "* None are known."
    return f"""# {recipe.name}

{recipe.title}. Imported from {foreign.origin}. Not for clinical use; nothing was measured here.

Source: {foreign.source or "not stated"}. Licence: {licence}.

## Labels

{labels}

## What its own program does in another way

{differences}
"""
