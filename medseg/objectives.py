"""What one step of training minimises, the same way for every segmentation network."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple

from torch import Generator, Tensor, nn

from voxelight.medseg.losses import Loss, deep_supervision
from voxelight.models.errors import NotFound

Terms = dict[str, Tensor]
"""``loss``, a scalar to take the gradient of, and every part of it by name, for the curve."""


class Phase(NamedTuple):
    """One optimiser of a step.

    Parameters
    ----------
    name : given back to the objective
    parameters : what this optimiser moves
    rate : learning rate relative to that of the recipe
    betas : how slowly Adam forgets mean and square of the slopes
    """

    name: str
    parameters: Sequence[nn.Parameter]
    rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)


class Objective(nn.Module):
    """A step of training: one phase after another, each with a loss and an optimiser of its own.

    Parameters and buffers of an objective (a discriminator, a counter) belong in the checkpoint of a training and not
    in the weights that it gives.
    """

    def phases(self, network: nn.Module) -> tuple[Phase, ...]:
        """Return the optimisers that a step goes through, in order."""
        return (Phase("network", list(network.parameters())),)

    def forward(self, phase: str, network: nn.Module, image: Tensor, reference: Tensor, generator: Generator) -> Terms:
        """Return the loss of a phase.

        Parameters
        ----------
        phase : name of one of `phases`
        network : of the table SEGMENTERS, or one that wraps it and is called alike
        image : tensor (b, c, i, j) or (b, c, i, j, k)
        reference : tensor (b, label, i, j) or (b, label, i, j, k), share of each label in [0, 1]
        generator : source of chance, on the device of the image
        """
        raise NotImplementedError


class Supervised(Objective):
    """A loss between the logits of every level of a network and the reference.

    Parameters
    ----------
    loss : of `medseg.losses.LOSSES`
    level_decay : weight of a level relative to the next finer one
    """

    def __init__(self, loss: Loss, level_decay: float) -> None:
        super().__init__()
        self.loss, self.level_decay = loss, level_decay

    def forward(self, phase: str, network: nn.Module, image: Tensor, reference: Tensor, generator: Generator) -> Terms:
        """Return the average over levels, which is the only term."""
        find: Callable[[Tensor], Sequence[Tensor]] | None = getattr(network, "forward_levels", None)
        levels = [network(image)] if find is None else find(image)
        return {"loss": deep_supervision(self.loss, levels, reference, self.level_decay)}


# What a network's attribute `objective` names; one without it is supervised.
OBJECTIVES: dict[str, str] = {
    "supervised": "voxelight.medseg.objectives:Supervised",
    "guided": "voxelight.medseg.guided:GuidedLoss",
    "denoising": "voxelight.medseg.denoising:Denoising",
}


def build_objective(network: nn.Module, loss: Loss, level_decay: float = 0.5) -> Objective:
    """Return what a network is trained by.

    Parameters
    ----------
    network : of the table SEGMENTERS; its attribute ``objective``, where it has one, is a name of `OBJECTIVES`
    loss : between logits and reference, of `medseg.losses.LOSSES`
    level_decay : weight of a level of deep supervision relative to the next finer one

    Raises
    ------
    NotFound
        The network asks for an objective that is not in the table.
    """
    name = getattr(network, "objective", "supervised")
    if name not in OBJECTIVES:
        raise NotFound(f"the objective {name!r}", f"one of {', '.join(OBJECTIVES)}", "Add it to the table.")
    module, _, found = OBJECTIVES[name].partition(":")
    if name == "supervised":
        return Supervised(loss, level_decay)
    built: Objective = getattr(import_module(module), found)(network, loss)
    return built
