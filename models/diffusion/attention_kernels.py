"""Triton kernels for attention with a bias that learns, many query heads sharing one key and value head.

PyTorch's own kernels write the slope of every entry of every sample to memory, where the bias needs their sum over the
samples alone; here that sum is taken on the chip, and nothing as large as the weights is ever written.
"""

# Triton has no types, and what it compiles is Python in its looks only.
# mypy: disable-error-code="import-untyped, untyped-decorator, no-untyped-def"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

TILE = 64
HEADS_A_PROGRAM = 8


@triton.jit
def _scores(qs, ks, bias, rows, cols, n, keys, stride, scale):
    """Return a tile of scores; where there is no key, nothing is left after an exponential."""
    inside = (rows < n)[:, None] & (cols < keys)[None, :]
    added = tl.load(bias + rows[:, None] * stride + cols[None, :], mask=inside, other=0.0).to(tl.float32)
    return tl.where((cols < keys)[None, :], tl.dot(qs, tl.trans(ks)) * scale + added, -float("inf"))


@triton.jit
def _slopes(qs, ks, vs, above, bias, lse, delta, rows, cols, n, keys, stride, scale):
    """Return a tile of slopes of the scores, 0 where a row is none."""
    scores = _scores(qs, ks, bias, rows, cols, n, keys, stride, scale)
    weights = tl.where((rows < n)[:, None], tl.exp(scores - lse[:, None]), 0.0)
    return weights * (tl.dot(above, tl.trans(vs)) - delta[:, None])


@triton.jit
def _load(x, rows, count, row_stride, D: tl.constexpr):
    """Return rows of D entries, zeros where there is none."""
    return tl.load(x + rows[:, None] * row_stride + tl.arange(0, D)[None, :], mask=(rows < count)[:, None], other=0.0)


@triton.jit
def _attend(q, k, v, bias, out, lse, n, keys, stride, scale, H, D: tl.constexpr, TILE: tl.constexpr):
    head, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    line = (sample * H + head) * n
    qs = _load(q + line * D, rows, n, D, D)
    largest = tl.full([TILE], -float("inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    sums = tl.zeros([TILE, D], tl.float32)
    for start in range(0, keys, TILE):
        cols = start + tl.arange(0, TILE)
        ks = _load(k + sample * keys * D, cols, keys, D, D)
        vs = _load(v + sample * keys * D, cols, keys, D, D)
        scores = _scores(qs, ks, bias + head * n * stride, rows, cols, n, keys, stride, scale)
        now = tl.maximum(largest, tl.max(scores, axis=1))
        weights = tl.exp(scores - now[:, None])
        before = tl.exp(largest - now)
        total = total * before + tl.sum(weights, axis=1)
        sums = sums * before[:, None] + tl.dot(weights.to(vs.dtype), vs)
        largest = now
    place = out + sample * n * H * D + head * D + rows[:, None] * (H * D) + tl.arange(0, D)[None, :]
    tl.store(place, (sums / total[:, None]).to(out.dtype.element_ty), mask=(rows < n)[:, None])
    tl.store(lse + line + rows, largest + tl.log(total), mask=rows < n)


@triton.jit
def _to_queries(q, k, v, bias, above, lse, delta, dq, n, keys, stride, scale, H, D: tl.constexpr, TILE: tl.constexpr):
    head, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    line = (sample * H + head) * n
    qs = _load(q + line * D, rows, n, D, D)
    slope = _load(above + sample * n * H * D + head * D, rows, n, H * D, D)
    scale_of = tl.load(lse + line + rows, mask=rows < n, other=0.0)
    offset = tl.load(delta + line + rows, mask=rows < n, other=0.0)
    sums = tl.zeros([TILE, D], tl.float32)
    for start in range(0, keys, TILE):
        cols = start + tl.arange(0, TILE)
        ks = _load(k + sample * keys * D, cols, keys, D, D)
        vs = _load(v + sample * keys * D, cols, keys, D, D)
        steep = _slopes(
            qs, ks, vs, slope, bias + head * n * stride, scale_of, offset, rows, cols, n, keys, stride, scale
        )
        sums += tl.dot(steep.to(ks.dtype), ks)
    place = dq + (line + rows[:, None]) * D + tl.arange(0, D)[None, :]
    tl.store(place, (sums * scale).to(dq.dtype.element_ty), mask=(rows < n)[:, None])


@triton.jit
def _to_keys(
    q, k, v, bias, above, lse, delta, dk, dv, n, keys, stride, scale, H, D: tl.constexpr, TILE: tl.constexpr,
    HEADS: tl.constexpr,
):  # fmt: skip
    group, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    cols = tl.program_id(0) * TILE + tl.arange(0, TILE)
    ks = _load(k + sample * keys * D, cols, keys, D, D)
    vs = _load(v + sample * keys * D, cols, keys, D, D)
    key_sums = tl.zeros([TILE, D], tl.float32)
    value_sums = tl.zeros([TILE, D], tl.float32)
    tiles = tl.cdiv(n, TILE)
    heads = tl.minimum(H - group * HEADS, HEADS)
    for step in range(heads * tiles):
        head = group * HEADS + step // tiles
        rows = (step % tiles) * TILE + tl.arange(0, TILE)
        line = (sample * H + head) * n
        qs = _load(q + line * D, rows, n, D, D)
        slope = _load(above + sample * n * H * D + head * D, rows, n, H * D, D)
        scale_of = tl.load(lse + line + rows, mask=rows < n, other=0.0)
        offset = tl.load(delta + line + rows, mask=rows < n, other=0.0)
        # Keys lie along the first axis, so that no tile has to be turned before the sums.
        inside = (cols < keys)[:, None] & (rows < n)[None, :]
        added = tl.load(bias + (head * n + rows)[None, :] * stride + cols[:, None], mask=inside, other=0.0)
        scores = tl.dot(ks, tl.trans(qs)) * scale + added.to(tl.float32)
        weights = tl.where(inside, tl.exp(scores - scale_of[None, :]), 0.0)
        steep = weights * (tl.dot(vs, tl.trans(slope)) - offset[None, :])
        value_sums += tl.dot(weights.to(slope.dtype), slope)
        key_sums += tl.dot(steep.to(qs.dtype), qs)
    place = ((sample * tl.num_programs(1) + group) * keys + cols[:, None]) * D + tl.arange(0, D)[None, :]
    tl.store(dk + place, key_sums * scale, mask=(cols < keys)[:, None])
    tl.store(dv + place, value_sums, mask=(cols < keys)[:, None])


@triton.jit
def _to_bias(
    q, k, v, bias, above, lse, delta, dbias, samples, n, keys, stride, scale, H, D: tl.constexpr, TILE: tl.constexpr
):
    head = tl.program_id(2)
    cols = tl.program_id(0) * TILE + tl.arange(0, TILE)
    rows = tl.program_id(1) * TILE + tl.arange(0, TILE)
    sums = tl.zeros([TILE, TILE], tl.float32)
    for sample in range(samples):
        wide = tl.cast(sample, tl.int64)
        line = (wide * H + head) * n
        qs = _load(q + line * D, rows, n, D, D)
        slope = _load(above + wide * n * H * D + head * D, rows, n, H * D, D)
        ks = _load(k + wide * keys * D, cols, keys, D, D)
        vs = _load(v + wide * keys * D, cols, keys, D, D)
        scale_of = tl.load(lse + line + rows, mask=rows < n, other=0.0)
        offset = tl.load(delta + line + rows, mask=rows < n, other=0.0)
        steep = _slopes(
            qs, ks, vs, slope, bias + head * n * stride, scale_of, offset, rows, cols, n, keys, stride, scale
        )
        sums += steep
    inside = (rows < n)[:, None] & (cols < keys)[None, :]
    tl.store(dbias + (head * n + rows[:, None]) * stride + cols[None, :], sums, mask=inside)


def fit_width(x: Tensor) -> Tensor:
    """Return x (..., dim) with zeros behind, dim being as the kernels want it."""
    return F.pad(x, (0, max(16, triton.next_power_of_2(x.shape[-1])) - x.shape[-1])).contiguous()


def _grid(count: int) -> int:
    return -(-count // TILE)


@torch.library.custom_op("voxelight::attend", mutates_args=())
def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the mean of the values, weighted by softmax(scale q k + bias), and the logarithm of the sums.

    Parameters
    ----------
    q : tensor (b, head, n, dim), dim a power of two from 16 on
    k, v : tensor (b, key, dim)
    bias : tensor (head, n, key), float32, contiguous but for padded rows
    scale : of the products

    Returns
    -------
    tensor (b, n, head, dim) and tensor (b, head, n), float32
    """
    b, heads, n, dim = q.shape
    q, k, v, bias = q.contiguous(), k.contiguous(), v.contiguous(), _narrow(bias, q)
    out = q.new_empty(b, n, heads, dim)
    lse = q.new_empty(b, heads, n, dtype=torch.float32)
    grid = (_grid(n), heads, b)
    _attend[grid](q, k, v, bias, out, lse, n, k.shape[1], bias.stride(1), scale, heads, D=dim, TILE=TILE)
    return out, lse


@torch.library.custom_op("voxelight::attend_backward", mutates_args=())
def attend_backward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, above: Tensor, lse: Tensor, delta: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the slopes of q, of k and v for each group of heads (b, group, key, dim), float32, and of the bias.

    Parameters
    ----------
    above : tensor (b, n, head, dim), the slope of the output
    delta : tensor (b, head, n), float32, the product of output and slope
    """
    (b, heads, n, dim), keys = q.shape, k.shape[1]
    q, k, v, above = q.contiguous(), k.contiguous(), v.contiguous(), above.contiguous()
    dq, dk, dv, dbias = _empty(q, k, bias)
    bias = _narrow(bias, q)
    given, sizes = (q, k, v, bias, above, lse.contiguous(), delta.contiguous()), (n, keys, bias.stride(1), scale, heads)
    _to_queries[(_grid(n), heads, b)](*given, dq, *sizes, D=dim, TILE=TILE)
    _to_keys[(_grid(keys), dk.shape[1], b)](*given, dk, dv, *sizes, D=dim, TILE=TILE, HEADS=HEADS_A_PROGRAM)
    _to_bias[(_grid(keys), _grid(n), heads)](*given, dbias, b, *sizes, D=dim, TILE=TILE)
    return dq, dk, dv, dbias


@attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    b, heads, n, dim = q.shape
    return q.new_empty(b, n, heads, dim), q.new_empty(b, heads, n, dtype=torch.float32)


@attend_backward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, above: Tensor, lse: Tensor, delta: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty(q, k, bias)


def _narrow(bias: Tensor, like: Tensor) -> Tensor:
    """Return the bias in the type of the queries, which halves what the kernels read most of."""
    return torch.empty_strided(bias.shape, bias.stride(), dtype=like.dtype, device=bias.device).copy_(bias)


def _empty(q: Tensor, k: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    b, heads, _, _ = q.shape
    dk, dv = (q.new_empty(b, -(-heads // HEADS_A_PROGRAM), *k.shape[1:], dtype=torch.float32) for _ in range(2))
    dbias = torch.empty_strided(bias.shape, bias.stride(), dtype=torch.float32, device=bias.device)
    return q.new_empty(q.shape), dk, dv, dbias


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *given, ctx.scale = inputs
    ctx.save_for_backward(*given, *output)


def _back(ctx: Any, above: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
    q, k, v, bias, out, lse = ctx.saved_tensors
    delta = (above.float() * out.float()).sum(dim=-1).transpose(1, 2)
    dq, dk, dv, dbias = attend_backward(q, k, v, bias, above, lse, delta, ctx.scale)
    return dq, dk.sum(dim=1).to(k.dtype), dv.sum(dim=1).to(v.dtype), dbias, None


attend.register_autograd(_back, setup_context=_keep)
