"""How a training starts: from fresh weights, or from a decoder of many subjects."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from voxelight.models.decoders.mindeye2 import MindEye2, MindEye2Config
from voxelight.models.errors import BadInput
from voxelight.models.weights import load_into
from voxelight.neuro.training.recipe import TrainingRecipe
from voxelight.neuro.training.ridge import use_adapters

_RIDGE = "ridge.linears."


def build_decoder(
    recipe: TrainingRecipe, voxels: Sequence[int], multisubject: Mapping[str, Tensor] | None = None
) -> MindEye2:
    """Return the decoder that a recipe trains, on the CPU.

    Parameters
    ----------
    recipe : sizes, seed and kind of start
    voxels : of each subject
    multisubject : weights of a decoder of many subjects, where the recipe starts from one

    Raises
    ------
    BadInput
        Weights are missing, not asked for, or of other sizes; several subjects are fitted to them at once; or the rank
        of adapters is no lower than that of a full map.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = MindEye2Config(voxels=tuple(voxels), **recipe.config).build()
    if (multisubject is None) == (recipe.start == "multisubject"):
        found = "no weights" if multisubject is None else "weights of a decoder"
        raise BadInput(
            f"{found} for the recipe {recipe.name}, which starts {recipe.start}",
            "weights of many subjects for a recipe that starts from them, and none for another",
            "Choose a recipe whose `start` fits, or fetch the weights.",
        )
    if multisubject is not None:
        start_from(network, multisubject, recipe.defects.inherited_ridge_bias)
    if recipe.adapter_rank is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            use_adapters(network, recipe.adapter_rank, multisubject)
    return network


def start_from(network: MindEye2, multisubject: Mapping[str, Tensor], inherit_bias: bool = False) -> None:
    """Give a decoder of one subject the weights of one of many, all but the ridge, which is the subject's own.

    Parameters
    ----------
    network : of one subject
    multisubject : state of a decoder of the same sizes, of any subjects
    inherit_bias : take the bias of its first subject all the same, as the released code does

    Raises
    ------
    BadInput
        The decoder has several subjects, or anything but the ridge is missing, too much or of another shape.
    """
    fresh = {name: value for name, value in network.state_dict().items() if name.startswith(_RIDGE)}
    if len(fresh) != 2:
        raise BadInput(f"a decoder of {len(fresh) // 2} subjects", "one new subject", "Fit subjects one by one.")
    if not any(name.startswith(_RIDGE) for name in multisubject):
        raise BadInput("weights without a ridge", "all weights of a decoder", "Hand in the whole state.")
    if inherit_bias:
        fresh[f"{_RIDGE}0.bias"] = multisubject[f"{_RIDGE}0.bias"]
    load_into(network, {name: value for name, value in multisubject.items() if not name.startswith(_RIDGE)} | fresh)
