"""What is trained, what decays, and how the rate goes up and down."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from voxelight.models.decoders.mindeye2 import MindEye2
from voxelight.models.diffusion.prior_network import LayerNorm
from voxelight.neuro.curves import one_cycle
from voxelight.neuro.training.recipe import TrainingRecipe

_NORMS = (nn.LayerNorm, nn.GroupNorm, LayerNorm)
_LOW_LEVEL = ("backbone.blin1.", "backbone.bnorm.", "backbone.bupsampler.", "backbone.b_maps_projector.")


def choose_trained(network: MindEye2, recipe: TrainingRecipe) -> None:
    """Mark the parameters that a recipe trains; those of parts that are frozen or serve no term stay as they are."""
    losses = recipe.losses
    idle = {f"{part}." for part in recipe.frozen}
    idle |= set() if losses.prior else {"diffusion_prior."}
    idle |= set() if losses.clip else {"backbone.clip_proj."}
    idle |= set() if losses.low_level else set(_LOW_LEVEL)
    idle |= set() if losses.contrast else {"backbone.b_maps_projector."}
    idle |= set() if recipe.defects.idle_blocks else {"backbone.mixer_blocks1."}
    for name, parameter in network.named_parameters():
        constant = name.endswith("rotary_emb.freqs")  # which the published file lists as a parameter
        parameter.requires_grad_(not constant and not name.startswith(tuple(idle)))
    network.backbone.shortcut = not recipe.defects.idle_blocks


def build_groups(network: MindEye2, recipe: TrainingRecipe) -> list[dict[str, Any]]:
    """Return AdamW's groups: all of the ridge decays, and of the rest what has no "bias" in its name.

    So the table of the prior's relative bias does not decay, while norms of the rest do only as a defect.
    """
    norms = set() if recipe.defects.decayed_norms else _find_norms(network)
    decayed: list[Tensor] = []
    kept: list[Tensor] = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = name.startswith("ridge.") or ("bias" not in name and name not in norms)
        (decayed if decays else kept).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimiser(network: MindEye2, recipe: TrainingRecipe, steps: int) -> tuple[AdamW, OneCycleLR]:
    """Return AdamW and its cycle, one step a batch.

    Parameters
    ----------
    network : on its device, its trained parameters chosen
    recipe : rates and groups
    steps : batches an epoch
    """
    fused = next(network.parameters()).device.type == "cuda"
    optimiser = AdamW(build_groups(network, recipe), lr=recipe.learning_rate, eps=1e-8, fused=fused)
    return optimiser, one_cycle(optimiser, recipe.epochs, steps, recipe.learning_rate)


def build_scaler(recipe: TrainingRecipe, device: torch.device) -> torch.amp.GradScaler:
    """Return the scaler of gradients, which does nothing but in half precision."""
    return torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")


def _find_norms(network: nn.Module) -> set[str]:
    """Return the names of the parameters of norms."""
    return {
        f"{path}.{name}"
        for path, module in network.named_modules()
        if isinstance(module, _NORMS)
        for name, _ in module.named_parameters(recurse=False)
    }
