"""A ridge of few parameters: for subjects with little data."""

from typing import cast

import torch
from torch import Tensor, nn

from voxelight.models.decoders.mindeye2 import MindEye2, Ridge
from voxelight.models.errors import BadInput


class AdapterRidge(nn.Module):
    r"""A map of rank r for every subject, upon one map that the subjects of one voxel space share.

    .. math:: W_s = W + B_s A_s, \quad A_s \in \mathbb{R}^{r \times V_s},\ B_s \in \mathbb{R}^{h \times r}

    (Hu et al. 2022, eq. 3), with a bias for each subject. W has the voxels of the first subject; a subject with another
    number of voxels shares no space with it, and W is left out: its map is of rank r alone. At the released size a full
    map has 64 million parameters and one of rank 256 has 5. `merged` returns plain maps, so that a decoder trained like
    this is stored and used as any other.

    Parameters
    ----------
    ridge : its first map becomes W, and its biases the biases
    rank : r
    """

    def __init__(self, ridge: Ridge, rank: int) -> None:
        super().__init__()
        linears = [cast(nn.Linear, linear) for linear in ridge.linears]
        hidden = linears[0].out_features
        if rank >= min(hidden, *(linear.in_features for linear in linears)):
            raise BadInput(f"an adapter of rank {rank}", "less than the voxels and the width of the shared space",
                           "Lower `adapter_rank`, or leave it out.")  # fmt: skip
        like = linears[0].weight
        self.shared = nn.Parameter(like.detach().clone())
        self.down = nn.ParameterList(_draw(rank, linear.in_features, like) for linear in linears)
        # Upon W an adapter starts from nothing; alone it must start from something.
        self.up = nn.ParameterList(
            like.new_zeros(hidden, rank) if self._shares(linear.in_features) else _draw(hidden, rank, like)
            for linear in linears
        )
        self.bias = nn.ParameterList(linear.bias.detach().clone() for linear in linears)

    def _shares(self, voxels: int) -> bool:
        return voxels == self.shared.shape[1]

    def forward(self, voxels: Tensor, subject: int = 0) -> Tensor:
        """Return (b, n, hidden) of voxels (b, n, voxel)."""
        low = nn.functional.linear(voxels, self.down[subject])
        adapted = nn.functional.linear(low, self.up[subject], self.bias[subject])
        return adapted + nn.functional.linear(voxels, self.shared) if self._shares(voxels.shape[-1]) else adapted

    def merged(self) -> dict[str, Tensor]:
        """Return the tensors of the plain ridge that does the same, under the names of a decoder's."""
        found: dict[str, Tensor] = {}
        for number, (up, down, bias) in enumerate(zip(self.up, self.down, self.bias, strict=True)):
            weight = (up @ down).detach()
            found[f"ridge.linears.{number}.weight"] = (
                weight + self.shared.detach() if self._shares(down.shape[1]) else weight
            )
            found[f"ridge.linears.{number}.bias"] = bias.detach()
        return found


def use_adapters(network: MindEye2, rank: int) -> None:
    """Give a decoder adapters in place of its ridge."""
    network.ridge = AdapterRidge(network.ridge, rank)  # type: ignore[assignment]


def find_weights(network: MindEye2) -> dict[str, Tensor]:
    """Return the weights of a decoder under their published names, adapters merged."""
    held: dict[str, Tensor] = network.state_dict()
    if not isinstance(network.ridge, AdapterRidge):
        return held
    rest = {name: value for name, value in held.items() if not name.startswith("ridge.")}
    return network.ridge.merged() | rest


def _draw(rows: int, columns: int, like: Tensor) -> Tensor:
    """Return what a fresh linear map of that shape has."""
    bound = columns**-0.5
    return torch.empty(rows, columns, dtype=like.dtype, device=like.device).uniform_(-bound, bound)
