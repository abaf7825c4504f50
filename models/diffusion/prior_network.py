"""The transformer of the diffusion prior (Ramesh et al. 2022, section 2.2, as released with MindEye2)."""

import math
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.diffusion.compilers import can_compile
from voxelight.models.diffusion.constants import Constants

ROTARY_DIM = 32
BUCKETS = 32
_LOGIT_SCALE = 16.0
_HALF = (torch.bfloat16, torch.float16)
_COMPILES = can_compile()


class LayerNorm(nn.Module):
    """Layer normalisation with a gain and no bias, computed in float32.

    Parameters
    ----------
    dim : width
    eps : added to the variance
    stable : divide by the largest entry first (the largest, not the largest magnitude)
    """

    def __init__(self, dim: int, eps: float = 1e-5, stable: bool = False) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim))
        self.eps = eps
        self.stable = stable

    def forward(self, x: Tensor) -> Tensor:
        """Return x (..., dim) normalised, in the type of the gain."""
        x = x.float()
        if self.stable:
            x = x / x.amax(dim=-1, keepdim=True).detach()
        return F.layer_norm(x, x.shape[-1:], self.g.float(), eps=self.eps).to(self.g.dtype)


class RelativeBias(nn.Module):
    """A bias for each head and distance: exact up to 16 back, then logarithmic up to 128 (Raffel et al. 2020).

    Key 0 is the null key, so key j is token j - 1. Whatever lies ahead shares the bucket of distance 0.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(BUCKETS, heads)

    def forward(self, length: int) -> Tensor:
        """Return the bias, tensor (head, length, length + 1), of `length` queries to as many keys and the null key."""
        table = self.relative_attention_bias.weight
        distance = torch.arange(length - 1, -1, -1, device=table.device)
        half = BUCKETS // 2
        far = half + (torch.log(distance.clamp(min=1).float() / half) / math.log(128 / half) * half).long()
        bucket = torch.where(distance < half, distance, far.clamp(max=BUCKETS - 1))
        # The rows are padded to a multiple of 16 in memory, else attention kernels copy them once a layer.
        keys = -(-(length + 1) // 16) * 16
        # Every row is the next one moved on by a key. Looked up entry by entry, the way back would add half of all
        # entries into one row of the table, one after the other.
        line = torch.cat([table[bucket], table[:1].expand(keys - 1, -1)]).T
        return line.unfold(1, keys, 1).flip(1).contiguous()[..., : length + 1]


class Position(NamedTuple):
    """What attention is told about positions, the same in every layer.

    bias : tensor (head, n, n + 1); cos, sin : tensor (n, pair), float32
    """

    bias: Tensor
    cos: Tensor
    sin: Tensor


def rotary_freqs(dim: int) -> dict[str, Tensor]:
    """Return the angle by which each pair of channels turns from one position to the next (Su et al. 2021)."""
    return {"freqs": 1e4 ** -(torch.arange(0, dim, 2, dtype=torch.float32) / dim)}


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring pairs of the first channels of x (..., n, dim) by the angles of their position (n, pair)."""
    turned, kept = x.tensor_split([2 * cos.shape[-1]], dim=-1)
    a, b = turned[..., 0::2], turned[..., 1::2]
    return torch.cat([torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2), kept], dim=-1)


class Attention(nn.Module):
    r"""Cosine attention of many query heads over one key and value head and a learned null key.

    .. math:: \mathrm{softmax}(16 \cos(q, k) + \mathrm{bias})\, v
    """

    def __init__(self, dim: int, heads: int, dim_head: int, to_out_eps: float, rotary: Constants) -> None:
        super().__init__()
        self.heads = heads
        self.null_kv = nn.Parameter(torch.randn(2, dim_head))
        self.norm = LayerNorm(dim)
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim, bias=False), LayerNorm(dim, to_out_eps))
        self.rotary_emb = rotary

    def forward(self, x: Tensor, position: Position) -> Tensor:
        """Return what is added to x (b, n, dim)."""
        y = self.norm(x)
        q = self.to_q(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.to_kv(y).chunk(2, dim=-1)
        q = rotate(q.float(), position.cos, position.sin)
        k = rotate(k.float(), position.cos, position.sin)
        null_k, null_v = self.null_kv.expand(len(x), 2, -1).chunk(2, dim=1)
        k, v = torch.cat([null_k.float(), k], dim=1), torch.cat([null_v.to(v.dtype), v], dim=1)
        q, k = F.normalize(q, dim=-1).to(v.dtype), F.normalize(k, dim=-1).to(v.dtype)
        return cast(Tensor, self.to_out(self._attend(q, k, v, position.bias)))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Return (b, n, head * dim) from q (b, head, n, dim) and k, v (b, n + 1, dim).

        With one key head, heads are but more queries. Kernels ask for a width that is a multiple of 8.
        """
        width = v.shape[-1]
        if bias.requires_grad and q.is_cuda and q.dtype in _HALF and _COMPILES:
            from voxelight.models.diffusion.attention_kernels import attend, fit_width

            given = map(fit_width, (q, k, v))
            return cast(Tensor, attend(*given, bias.float(), _LOGIT_SCALE)[0][..., :width].flatten(2))
        q, k, v = (F.pad(part, (0, -width % 8)).unsqueeze(1) for part in (q.flatten(1, 2), k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.flatten(0, 1).to(q.dtype), scale=_LOGIT_SCALE)
        return out[:, 0, :, :width].reshape(len(v), self.heads, -1, width).transpose(1, 2).flatten(2)


class SwiGLU(nn.Module):
    """The first half of the channels times SiLU of the second (Shazeer 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return half of the channels of x (..., 2 dim)."""
        value, gate = x.chunk(2, dim=-1)
        return value * F.silu(gate)


def feed_forward(dim: int, factor: int = 4) -> nn.Sequential:
    """Return the gated layer; the two places without weights are those of a norm and a dropout that are off."""
    inner = factor * dim
    return nn.Sequential(
        LayerNorm(dim),
        nn.Linear(dim, 2 * inner, bias=False),
        SwiGLU(),
        nn.Identity(),
        nn.Identity(),
        nn.Linear(inner, dim, bias=False),
    )


def move_on(layer: nn.ModuleList, z: Tensor, position: Position) -> Tensor:
    """Return z (b, n, dim) with attention and the gated layer added, each of what it is given."""
    attention, feed = layer
    z = z + attention(z, position)
    return cast(Tensor, z + feed(z))


class Transformer(nn.Module):
    """Pre-norm layers with a shared bias; nothing is masked. The residual stream is kept in float32.

    Attributes
    ----------
    move_on : what a layer does; a long training puts a compiled form there
    """

    def __init__(self, dim: int, depth: int, heads: int, dim_head: int, to_out_eps: float) -> None:
        super().__init__()
        self.move_on = move_on
        rotary = Constants(partial(rotary_freqs, min(ROTARY_DIM, dim_head)), as_parameters=True)
        self.rel_pos_bias = RelativeBias(heads)
        self.layers = nn.ModuleList(
            nn.ModuleList([Attention(dim, heads, dim_head, to_out_eps, rotary), feed_forward(dim)])
            for _ in range(depth)
        )
        self.norm = LayerNorm(dim, stable=True)
        self.project_out = nn.Linear(dim, dim, bias=False)

    def position(self, length: int) -> Position:
        """Return bias and rotary angles of a sequence."""
        freqs = cast(Tensor, self.get_parameter("layers.0.0.rotary_emb.freqs"))
        angles = torch.arange(length, dtype=torch.float32, device=freqs.device)[:, None] * freqs
        return Position(self.rel_pos_bias(length), angles.cos(), angles.sin())

    def forward(self, z: Tensor, last: int) -> Tensor:
        """Return the projection (b, last, dim) of the last positions of the sequence z (b, n, dim), float32."""
        position = self.position(z.shape[1])
        for layer in self.layers:
            z = self.move_on(cast(nn.ModuleList, layer), z, position)
        return cast(Tensor, self.project_out(self.norm(z[:, -last:])))


class TimeSinusoid(nn.Module):
    """Sine and cosine of a raw integer time at frequencies from 1 to 1/10000."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, times: Tensor) -> Tensor:
        """Return (b, dim), float32, of times (b,)."""
        half = self.dim // 2
        rates = torch.exp(torch.arange(half, device=times.device) * -(math.log(1e4) / (half - 1)))
        angles = times.float()[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class TimeMLP(nn.Module):
    """Three layers from the sinusoid to a token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU()),
            nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.SiLU()),
            nn.Linear(2 * dim, dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (b, dim) in the type of the weights."""
        return cast(Tensor, self.net(x.to(self.get_parameter("net.2.weight").dtype)))


class PriorNetwork(nn.Module):
    """Predict the clean image tokens from noisy ones, the time and the brain's tokens.

    Parameters
    ----------
    dim, tokens : width and number of the tokens
    depth, heads, dim_head : of the transformer
    to_out_eps : eps of the norm that ends every attention
    """

    def __init__(self, dim: int, tokens: int, depth: int, heads: int, dim_head: int, to_out_eps: float) -> None:
        super().__init__()
        self.tokens = tokens
        self.to_time_embeds = nn.Sequential(nn.Sequential(TimeSinusoid(dim), TimeMLP(dim)))
        self.learned_query = nn.Parameter(torch.randn(tokens, dim) * dim**-0.5)
        self.null_brain_embeds = nn.Parameter(torch.randn(tokens, dim))
        self.null_image_embed = nn.Parameter(torch.randn(tokens, dim))
        self.causal_transformer = Transformer(dim, depth, heads, dim_head, to_out_eps)

    def sequence(
        self,
        x: Tensor,
        times: Tensor,
        brain: Tensor,
        brain_keep: Tensor | None = None,
        image_keep: Tensor | None = None,
    ) -> Tensor:
        """Return the transformer's input, tensor (b, 2 token + 1, dim), float32: brain, time, image."""
        brain, x = brain.float(), x.float()
        if brain_keep is not None:
            brain = torch.where(brain_keep[:, None, None], brain, self.null_brain_embeds.float())
        if image_keep is not None:
            x = torch.where(image_keep[:, None, None], x, self.null_image_embed.float())
        time = self.to_time_embeds(times).float()[:, None]
        return torch.cat([brain, time, x + self.learned_query.float()], dim=1)

    def forward(
        self,
        x: Tensor,
        times: Tensor,
        brain: Tensor,
        brain_keep: Tensor | None = None,
        image_keep: Tensor | None = None,
    ) -> Tensor:
        """Predict the clean tokens.

        Parameters
        ----------
        x : tensor (b, token, dim), noisy image tokens
        times : tensor (b,), int64
        brain : tensor (b, token, dim)
        brain_keep, image_keep : tensor (b,), bool; where False, the learned null tokens stand in

        Returns
        -------
        tensor (b, token, dim), in the type of the weights
        """
        z = self.sequence(x, times, brain, brain_keep, image_keep)
        return cast(Tensor, self.causal_transformer(z, last=self.tokens))

    def guided(self, x: Tensor, times: Tensor, brain: Tensor, guidance: float = 1.0) -> Tensor:
        r"""Return :math:`n + s (c - n)`, c with the condition and n with both null tokens (Ho and Salimans 2022).

        A guidance of 1 is the condition alone, in one call of half the batch.
        """
        if guidance == 1:
            return cast(Tensor, self(x, times, brain))
        keep = torch.arange(2 * len(x), device=x.device) < len(x)
        twice = self(x.repeat(2, 1, 1), times.repeat(2), brain.repeat(2, 1, 1), keep, keep)
        conditional, null = cast(Tensor, twice).float().chunk(2)
        return null + guidance * (conditional - null)
