"""Layers compiled for a training that is long enough to pay for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from voxelight.models.decoders.mindeye2 import MindEye2
from voxelight.models.diffusion.compilers import can_compile
from voxelight.models.diffusion.prior_network import move_on
from voxelight.neuro.training.recipe import TrainingRecipe

STEPS_THAT_PAY = 2000
"""Compiling takes 15 to 25 s, and an H200 is 20 ms a step faster after it."""


def pays(recipe: TrainingRecipe, steps: int, device: torch.device) -> bool:
    """Return whether a training is worth it: long, in half precision, on a GPU, and with a C compiler at hand."""
    long = steps >= STEPS_THAT_PAY and recipe.precision != "fp32" and bool(recipe.losses.prior)
    return long and device.type == "cuda" and can_compile()


@contextmanager
def compiled(network: MindEye2, wanted: bool) -> Iterator[None]:
    """Let the layers of the prior be compiled inside the block, one time for all of them; the numbers are the same.

    Passes over memory are joined, and the order in which halves are rounded may differ by it.
    """
    prior = network.diffusion_prior
    if not wanted or prior is None:
        yield
        return
    transformer = prior.net.causal_transformer
    transformer.move_on = torch.compile(move_on, fullgraph=True, dynamic=False)
    try:
        yield
    finally:
        transformer.move_on = move_on
