"""The guided losses of multi-scale self-guided attention (Sinha and Dolz 2020)."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from voxelight.medseg.losses import Loss
from voxelight.medseg.objectives import Objective, Terms

Pairs = Sequence[tuple[Tensor, Tensor]]


def squared_differences(pairs: Pairs) -> Tensor:
    """Return the mean squared difference of each pair, tensor (pair,); gradients reach both sides."""
    return torch.stack([F.mse_loss(one.float(), other.float()) for one, other in pairs])


class GuidedLoss(Objective):
    r"""The sum over the eight heads, plus what guides the stages.

    .. math:: L = \sum_{h=1}^{8} L_h + w_g \sum_{s=1}^{4} \mathrm{MSE}(v_s^1, v_s^2)
        + w_r \sum_{a=1}^{8} \mathrm{MSE}(x_a, \hat x_a)

    with bottlenecks v of the two stages at each scale, and input x and output of each autoencoder. Published with the
    cross-entropy as L_h.

    Parameters
    ----------
    network : an MSGA, whose configuration has the weights; it takes its ImageNet weights here where it asks for them
    loss : of each head, of `medseg.losses.LOSSES`
    """

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        config = network.config
        self.loss = loss
        self.guide_weight: float = config.guide_weight  # type: ignore[union-attr, assignment]
        self.reconstruction_weight: float = config.reconstruction_weight  # type: ignore[union-attr, assignment]
        network.warm_start()  # type: ignore[operator]

    def forward(self, phase: str, network: nn.Module, image: Tensor, reference: Tensor, generator: Generator) -> Terms:
        """Return the total and its three parts, unweighted."""
        found = network.forward_guided(image)  # type: ignore[operator]
        heads = torch.stack([self.loss(logits, reference) for logits in found.logits]).sum()
        guide = squared_differences(found.vectors).sum()
        rebuilt = squared_differences(found.reconstructions).sum()
        total = heads + self.guide_weight * guide + self.reconstruction_weight * rebuilt
        return {"loss": total, "heads": heads, "guide": guide, "reconstruction": rebuilt}
