"""The widest layer stepped in place, where it pays: its gradient is never written."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import AdamW

from voxelight.models.decoders.mindeye2 import MindEye2
from voxelight.models.decoders.wide import WideLinear
from voxelight.models.diffusion.compilers import can_compile
from voxelight.models.training import processes
from voxelight.neuro.training.recipe import TrainingRecipe

STEPS_THAT_PAY = 1000
"""Building the kernel takes a few seconds, and a step at the released size saves 5 ms at the most."""

WEIGHTS_THAT_PAY = 100_000_000
"""With fewer, launching what a step needs takes about as long as the traffic that is saved."""


def pays(network: MindEye2, recipe: TrainingRecipe, steps: int, device: torch.device) -> bool:
    """Return whether a training is worth it: long, wide, in bf16, on a GPU, and with a C compiler at hand."""
    weight = network.backbone.backbone_linear.weight
    large = steps >= STEPS_THAT_PAY and weight.numel() >= WEIGHTS_THAT_PAY and weight.requires_grad
    return large and recipe.precision == "bf16" and device.type == "cuda" and can_compile() and may(recipe)


def may(recipe: TrainingRecipe) -> bool:
    """Return whether nobody else needs the gradient: several processes add theirs up, fp16 has it scaled and judged."""
    return recipe.precision != "fp16" and processes.count() == 1


@contextmanager
def stepped_in_place(network: MindEye2, optimiser: AdamW, wanted: bool) -> Iterator[None]:
    """Let AdamW step the widest layer inside the block from the factors of its gradient, which nothing else gets.

    Numbers are the same but for rounding, and the optimiser's state is laid out the same, so that either way goes on
    with it. The optimiser leaves these weights alone, as they have no gradient; they are stepped just before it steps.

    Parameters
    ----------
    network : in training
    optimiser : of its weights, neither ``amsgrad`` nor ``maximize``; gradients are neither scaled nor cut
    wanted : nothing is done otherwise
    """
    if not wanted:
        yield
        return
    layer = network.backbone.backbone_linear
    layer.factors = []
    hook = optimiser.register_step_pre_hook(lambda *_: _step(layer, optimiser))
    try:
        yield
    finally:
        hook.remove()
        layer.factors = None
        layer.keep(None)


@torch.no_grad()
def _step(layer: WideLinear, optimiser: AdamW) -> None:
    from voxelight.models.decoders.wide_kernels import Rates, adamw_

    weight, factors = layer.weight, layer.factors
    if weight.grad is not None:
        layer.keep(None)  # a fused step, which follows, leaves the version of the weights as it is
    if not factors:
        return
    # One for each part of the batch: a sum over them is a product of all their rows.
    slope, x = (torch.cat(part) for part in zip(*factors, strict=True))
    factors.clear()
    if weight.grad is not None:  # a pass without autocast wrote one, so the optimiser takes both together
        weight.grad += slope.T.float() @ x.float()
        return
    # Looked up anew, since a state that is loaded brings groups and moments of its own.
    group = next(group for group in optimiser.param_groups if any(one is weight for one in group["params"]))
    state = optimiser.state[weight]
    if not state:
        state.update(_fresh(weight, group["fused"]))
    state["step"] += 1
    half = layer.halve(slope.dtype)
    rates = Rates(*map(float, (group["lr"], *group["betas"], group["eps"], group["weight_decay"])))
    adamw_((weight, state["exp_avg"], state["exp_avg_sq"], half), slope, x, state["step"], rates)
    layer.keep(half)


def _fresh(weight: Tensor, fused: bool | None) -> dict[str, Tensor]:
    """Return the state that AdamW starts a weight with."""
    step = torch.zeros((), device=weight.device if fused else None)
    return {"step": step, "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
