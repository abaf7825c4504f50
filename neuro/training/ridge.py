"""A ridge of few parameters: for subjects with little data."""

from collections import Counter
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from voxelight.models.decoders.mindeye2 import MindEye2, Ridge
from voxelight.models.errors import BadInput


class AdapterRidge(nn.Module):
    r"""A map of rank r for every subject, upon one map that subjects of one voxel space share.

    .. math:: W_s = W + B_s A_s, \quad A_s \in \mathbb{R}^{r \times V_s},\ B_s \in \mathbb{R}^{h \times r}

    (Hu et al. 2022, eq. 3), with a bias for each subject. A subject whose number of voxels is not that of W shares no
    space with it; its map is of rank r alone. At the released size a full map has 64 million parameters, and one of
    rank 256 has 5. `merged` returns plain maps, so that what is trained like this is stored and used as any decoder.

    Parameters
    ----------
    ridge : its biases are taken over
    rank : r
    shared : W (h, voxel), if there is a common space
    trained : whether W is trained along
    """

    def __init__(self, ridge: Ridge, rank: int, shared: Tensor | None, trained: bool) -> None:
        super().__init__()
        linears = [cast(nn.Linear, linear) for linear in ridge.linears]
        hidden = linears[0].out_features
        if rank >= min(hidden, *(linear.in_features for linear in linears)):
            raise BadInput(
                f"an adapter of rank {rank}",
                "less than the voxels of each subject and the width of the shared space",
                "Lower `adapter_rank`, or leave it out.",
            )
        like = linears[0].weight
        self.shared: Tensor | None
        copied = None if shared is None else shared.detach().to(like, copy=True)
        if copied is not None and trained:
            self.shared = nn.Parameter(copied)
        else:
            self.register_buffer("shared", copied)
        self.down = nn.ParameterList(_draw(rank, linear.in_features, like) for linear in linears)
        # Upon W an adapter starts from nothing; alone it must start from something.
        self.up = nn.ParameterList(
            _draw(hidden, rank, like) if self._shared(linear.in_features) is None else like.new_zeros(hidden, rank)
            for linear in linears
        )
        self.bias = nn.ParameterList(linear.bias.detach().clone() for linear in linears)

    def _shared(self, voxels: int) -> Tensor | None:
        return self.shared if self.shared is not None and self.shared.shape[1] == voxels else None

    def forward(self, voxels: Tensor, subject: int = 0) -> Tensor:
        """Return (b, n, hidden) of voxels (b, n, voxel)."""
        low = nn.functional.linear(voxels, self.down[subject])
        adapted = nn.functional.linear(low, self.up[subject], self.bias[subject])
        shared = self._shared(voxels.shape[-1])
        return adapted if shared is None else adapted + nn.functional.linear(voxels, shared)

    def merged(self) -> dict[str, Tensor]:
        """Return the tensors of the plain ridge that does the same, under the names of a decoder's."""
        found: dict[str, Tensor] = {}
        for number, (up, down, bias) in enumerate(zip(self.up, self.down, self.bias, strict=True)):
            weight, shared = (up @ down).detach(), self._shared(down.shape[1])
            found[f"ridge.linears.{number}.weight"] = weight if shared is None else weight + shared.detach()
            found[f"ridge.linears.{number}.bias"] = bias.detach()
        return found


def use_adapters(network: MindEye2, rank: int, multisubject: Mapping[str, Tensor] | None = None) -> None:
    """Give a decoder adapters in place of its ridge.

    The shared map is that of the first pretraining subject in the voxel space of the new one, and stays as it is; or,
    where all is trained from the start, one for the subjects of the commonest space, if there are several in it.

    Parameters
    ----------
    network : its ridge is replaced
    rank : of the adapters
    multisubject : what a new subject is fitted to, if it is

    Raises
    ------
    BadInput
        The rank is no lower than that of a full map.
    """
    maps = [cast(nn.Linear, linear).weight for linear in network.ridge.linears]
    if multisubject is None:
        voxels, count = Counter(weight.shape[1] for weight in maps).most_common(1)[0]
        known = [weight for weight in maps if count > 1 and weight.shape[1] == voxels]
    else:
        known = [
            value
            for name, value in multisubject.items()
            if name.startswith("ridge.linears.") and value.ndim == 2 and value.shape[1] == maps[0].shape[1]
        ]
    adapters = AdapterRidge(network.ridge, rank, known[0] if known else None, trained=multisubject is None)
    network.ridge = adapters  # type: ignore[assignment]


def find_weights(network: MindEye2) -> dict[str, Tensor]:
    """Return the weights of a decoder under their published names, adapters merged."""
    held: dict[str, Tensor] = network.state_dict()
    ridge: nn.Module = network.ridge
    if not isinstance(ridge, AdapterRidge):
        return held
    return ridge.merged() | {name: value for name, value in held.items() if not name.startswith("ridge.")}


def _draw(rows: int, columns: int, like: Tensor) -> Tensor:
    """Return what a fresh linear map of that shape has."""
    bound = columns**-0.5
    return torch.empty(rows, columns, dtype=like.dtype, device=like.device).uniform_(-bound, bound)
