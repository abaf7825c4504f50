"""Attention among positions and among channels (Fu et al. 2019, DANet); no map of positions is held."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ChannelForm = Literal["danet", "released"]


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    r"""Return :math:`\mathrm{softmax}(s\,Q K^T) V` without ever holding the map.

    Parameters
    ----------
    query, key : tensor (b, position, d)
    value : tensor (b, position, d')
    scale : s

    Returns
    -------
    tensor (b, position, d')
    """
    inner, outer = query.shape[-1], value.shape[-1]
    # The kernels that hold no map want one width on a CPU, multiples of 8 on a GPU, and each position in one piece.
    # Zeros leave the products alone.
    on_cpu = value.device.type == "cpu"
    wide = (max(inner, outer),) * 2 if on_cpu else (inner + (-inner) % 8, outer + (-outer) % 8)
    q, k = (F.pad(x, (0, wide[0] - inner)).contiguous()[:, None] for x in (query, key))
    v = F.pad(value, (0, wide[1] - outer)).contiguous()[:, None]
    found = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return found[:, 0, :, :outer]


def channel_map(x: Tensor, form: ChannelForm) -> Tensor:
    r"""Return the weights of every channel in every other.

    .. math:: \mathrm{softmax}_d(\max_d E_{cd} - E_{cd}) \quad\text{(danet)}, \qquad
        \big[\mathrm{softmax}_d\,E_{cd}\big]^T \quad\text{(released)}, \qquad E = X X^T

    Parameters
    ----------
    x : tensor (b, c, position)
    form : ``released`` is that of AGUNet's code, where the weights that make one channel don't sum to one

    Returns
    -------
    tensor (b, c, c), to be multiplied with x from the left
    """
    # The sum runs over all positions, more than half precision can hold.
    with torch.autocast(x.device.type, enabled=False):
        energy = torch.bmm(x.float(), x.float().transpose(1, 2))
        if form == "released":
            return energy.softmax(dim=-1).transpose(1, 2)
        return (energy.amax(dim=-1, keepdim=True) - energy).softmax(dim=-1)


class PositionAttention(nn.Module):
    r"""Every position sees every other: :math:`y = \gamma\,\mathrm{softmax}(Q K^T) V + x`, gamma 0 at first.

    Parameters
    ----------
    dims : 2 for pixels, 3 for voxels
    channels : of x; queries and keys have an eighth
    bias : whether the three projections have one
    """

    def __init__(self, dims: int, channels: int, bias: bool) -> None:
        super().__init__()
        conv: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if dims == 2 else nn.Conv3d
        inner = max(1, channels // 8)
        self.query = conv(channels, inner, 1, bias=bias)
        self.key = conv(channels, inner, 1, bias=bias)
        self.value = conv(channels, channels, 1, bias=bias)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x, (b, c, i, j[, k])."""
        q, k, v = (project(x).flatten(2).transpose(1, 2) for project in (self.query, self.key, self.value))
        found = attend(q, k, v, scale=1.0).transpose(1, 2).reshape(x.shape)
        return self.gamma * found + x


class ChannelAttention(nn.Module):
    r"""Every channel sees every other: :math:`y = \gamma\,M x + x` with M of `channel_map`, gamma 0 at first.

    Parameters
    ----------
    form : of the map
    """

    def __init__(self, form: ChannelForm = "danet") -> None:
        super().__init__()
        self.form = form
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x, (b, c, i, j[, k])."""
        flat = x.flatten(2)
        found = torch.bmm(channel_map(flat, self.form).to(flat.dtype), flat).reshape(x.shape)
        return self.gamma * found + x
