"""Triton kernels for the memory-bound steps of a UNet on a GPU, and for its gated feed-forward product."""

# Triton has no types, and what it compiles is Python in its looks only.
# mypy: disable-error-code="import-untyped, untyped-decorator, no-untyped-def"

from collections.abc import Sequence
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from voxelight.models.diffusion import plain

CHANNEL_TILE = 64
PIXEL_TILE = 64
HOPPER = (9, 0)


@triton.jit
def _layer_norm(x, shift, weight, bias, out, rows, eps, D: tl.constexpr, BLOCK: tl.constexpr, R: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)[:, None]
    col = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (col < D)
    values = tl.load(x + row * D + col, mask=inside, other=0.0).to(tl.float32)
    values += tl.load(shift + col, mask=col < D, other=0.0)
    mean = tl.sum(values, axis=1)[:, None] / D
    centred = tl.where(col < D, values - mean, 0.0)
    variance = tl.sum(centred * centred, axis=1)[:, None] / D
    normed = centred * tl.rsqrt(variance + eps)
    gain = tl.load(weight + col, mask=col < D, other=0.0).to(tl.float32)
    offset = tl.load(bias + col, mask=col < D, other=0.0).to(tl.float32)
    tl.store(out + row * D + col, (normed * gain + offset).to(out.dtype.element_ty), mask=inside)


def layer_norm(x: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return the layer norm of ``x + shift`` over the last axis.

    Parameters
    ----------
    x : (..., dim) contiguous
    shift : (dim,) float32
    weight, bias : (dim,)
    eps : added to the variance
    """
    dim = x.shape[-1]
    rows = x.numel() // dim
    out = torch.empty_like(x)
    per_program = 2
    grid = (triton.cdiv(rows, per_program),)
    block = triton.next_power_of_2(dim)
    _layer_norm[grid](x, shift, weight, bias, out, rows, eps, D=dim, BLOCK=block, R=per_program, num_warps=4)
    return out


@triton.jit
def _channel_sums(x, sums, pixels, per_program, C, OUT, TILE_C: tl.constexpr, TILE_P: tl.constexpr):
    part, image, tile = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    channel = tile * TILE_C + tl.arange(0, TILE_C)[None, :]
    total = tl.zeros((TILE_P, TILE_C), tl.float32)
    squares = tl.zeros((TILE_P, TILE_C), tl.float32)
    first = part * per_program
    for start in range(first, min(first + per_program, pixels), TILE_P):
        pixel = start + tl.arange(0, TILE_P)[:, None]
        inside = (pixel < min(first + per_program, pixels)) & (channel < C)
        values = tl.load(x + (image * pixels + pixel) * C + channel, mask=inside, other=0.0).to(tl.float32)
        total += values
        squares += values * values
    at = sums + ((image * tl.num_programs(0) + part) * 2) * OUT + tile * TILE_C + tl.arange(0, TILE_C)
    valid = tile * TILE_C + tl.arange(0, TILE_C) < C
    tl.store(at, tl.sum(total, axis=0), mask=valid)
    tl.store(at + OUT, tl.sum(squares, axis=0), mask=valid)


@triton.jit
def _group_affine(
    sums, add, weight, bias, affine, pixels, eps, C, PER, SPLITS, HAS_ADD: tl.constexpr,
    BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    image, group = tl.program_id(0), tl.program_id(1)
    count, total_all, squares_all = pixels * PER, 0.0, 0.0
    for first in range(0, PER, BLOCK):
        inner = first + tl.arange(0, BLOCK)
        channel, valid = group * PER + inner, inner < PER
        total = tl.zeros((BLOCK,), tl.float32)
        squares = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, SPLITS, TILE):
            split = start + tl.arange(0, TILE)[:, None]
            at = sums + ((image * SPLITS + split) * 2) * C + channel[None, :]
            inside = (split < SPLITS) & valid[None, :]
            total += tl.sum(tl.load(at, mask=inside, other=0.0), axis=0)
            squares += tl.sum(tl.load(at + C, mask=inside, other=0.0), axis=0)
        if HAS_ADD:  # of x + add: the sums follow without reading x again
            added = tl.load(add + image * C + channel, mask=valid, other=0.0).to(tl.float32)
            squares += 2 * added * total + pixels * added * added
            total += pixels * added
        total_all += tl.sum(total, axis=0)
        squares_all += tl.sum(squares, axis=0)
    mean = total_all / count
    rate = tl.rsqrt(tl.maximum(squares_all / count - mean * mean, 0.0) + eps)
    for first in range(0, PER, BLOCK):
        inner = first + tl.arange(0, BLOCK)
        channel, valid = group * PER + inner, inner < PER
        centre = tl.zeros((BLOCK,), tl.float32) - mean
        if HAS_ADD:
            centre += tl.load(add + image * C + channel, mask=valid, other=0.0).to(tl.float32)
        scale = rate * tl.load(weight + channel, mask=valid, other=0.0).to(tl.float32)
        offset = tl.load(bias + channel, mask=valid, other=0.0).to(tl.float32) + centre * scale
        tl.store(affine + (image * 2) * C + channel, scale, mask=valid)
        tl.store(affine + (image * 2 + 1) * C + channel, offset, mask=valid)


@triton.jit
def _apply_affine(x, affine, out, pixels, C, OUT, SILU: tl.constexpr, TILE_C: tl.constexpr, TILE_P: tl.constexpr):
    image = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * TILE_C + tl.arange(0, TILE_C)[None, :]
    pixel = tl.program_id(0) * TILE_P + tl.arange(0, TILE_P)[:, None]
    inside = (pixel < pixels) & (channel < C)
    values = tl.load(x + (image * pixels + pixel) * C + channel, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(affine + (image * 2) * OUT + channel, mask=channel < C, other=0.0)
    offset = tl.load(affine + (image * 2 + 1) * OUT + channel, mask=channel < C, other=0.0)
    values = values * scale + offset
    if SILU:
        values = values / (1 + tl.exp(-values))
    tl.store(out + (image * pixels + pixel) * OUT + channel, values.to(out.dtype.element_ty), mask=inside)


def group_norm(parts: Sequence[Tensor], add: Tensor | None, norm: torch.nn.GroupNorm, silu: bool) -> Tensor:
    """Return ``norm(cat(parts) + add)``, then SiLU where asked for, with channels last.

    Parameters
    ----------
    parts : each (b, c, h, w), joined along the channels
    add : (b, c of all) or None
    norm : its groups, eps, weight and bias
    silu : whether SiLU follows
    """
    b, _, h, w = parts[0].shape
    parts = [part.contiguous(memory_format=torch.channels_last) for part in parts]
    first, c, pixels = parts[0], sum(part.shape[1] for part in parts), h * w
    splits = max(1, min(triton.cdiv(pixels, PIXEL_TILE), 2048 * CHANNEL_TILE // (b * c)))
    per_program = triton.cdiv(triton.cdiv(pixels, splits), PIXEL_TILE) * PIXEL_TILE
    splits = triton.cdiv(pixels, per_program)
    sums = torch.empty(b, splits, 2, c, device=first.device, dtype=torch.float32)
    affine = torch.empty(b, 2, c, device=first.device, dtype=torch.float32)
    out = torch.empty(b, c, h, w, device=first.device, dtype=first.dtype, memory_format=torch.channels_last)
    tile = {"TILE_C": CHANNEL_TILE, "TILE_P": PIXEL_TILE}
    ends = list(accumulate(part.shape[1] for part in parts))
    for part, end in zip(parts, ends, strict=True):
        mine = part.shape[1]
        grid = (splits, b, triton.cdiv(mine, CHANNEL_TILE))
        _channel_sums[grid](part, sums[..., end - mine :], pixels, per_program, mine, c, **tile)
    _group_affine[(b, norm.num_groups)](
        sums, add, norm.weight, norm.bias, affine, pixels, norm.eps, c, c // norm.num_groups, splits,
        HAS_ADD=add is not None, BLOCK=32, TILE=32, num_warps=1,
    )  # fmt: skip
    for part, end in zip(parts, ends, strict=True):
        mine = part.shape[1]
        grid = (triton.cdiv(pixels, PIXEL_TILE), b, triton.cdiv(mine, CHANNEL_TILE))
        at = slice(end - mine, None)
        _apply_affine[grid](part, affine[..., at], out[:, at], pixels, mine, c, SILU=silu, **tile)
    return out


@triton.jit
def _double(x, out, width, C, TILE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * TILE + tl.arange(0, TILE)[:, None]
    for start in range(0, C, BLOCK):
        channel = start + tl.arange(0, BLOCK)[None, :]
        inside = (pixel < width) & (channel < C)
        values = tl.load(x + (row * width + pixel) * C + channel, mask=inside)
        for copy in tl.static_range(4):
            line = 2 * row + copy // 2
            tl.store(out + (line * 2 * width + 2 * pixel + copy % 2) * C + channel, values, mask=inside)


def double(x: Tensor) -> Tensor:
    """Return x (b, c, h, w), channels_last, at twice the height and width, each pixel four times."""
    b, c, h, w = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty(b, c, 2 * h, 2 * w, device=x.device, dtype=x.dtype, memory_format=torch.channels_last)
    # Rows of all images follow each other, so that row r of the input becomes rows 2 r and 2 r + 1 of the output.
    _double[(b * h, triton.cdiv(w, 16))](x, out, w, c, TILE=16, BLOCK=128)
    return out


@triton.jit
def _add_bias(x, y, bias, total, C: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    left = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    right = tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(bias + at % C, mask=inside, other=0.0)
    tl.store(x + at, (left + right + offset).to(x.dtype.element_ty), mask=inside)


def add_bias_(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """Add y and the bias of each channel to x in place.

    Parameters
    ----------
    x, y : (b, c, h, w), channels_last
    bias : (c,) float32
    """
    y = y.contiguous(memory_format=torch.channels_last)
    block = 2048
    _add_bias[(triton.cdiv(x.numel(), block),)](x, y, bias, x.numel(), C=x.shape[1], BLOCK=block, num_warps=8)
    return x


@triton.jit
def gelu(x, EXACT: tl.constexpr):
    """Return ``x (1 + erf(x / sqrt 2)) / 2``.

    Not exact: ``x (1 + tanh(x p(x^2))) / 2``, p fitted to it; |error| < 2.6e-5, under the rounding of half precision.
    """
    if EXACT:
        share = tl.erf(x * 0.7071067811865476)
    else:
        square = tl.minimum(x * x, 40.0)
        inner = x * (0.797505275 + square * (0.03700802 - 3.51902392e-4 * square))
        share = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [inner], dtype=tl.float32, is_pure=True, pack=1
        )
    return 0.5 * x * (1 + share)


@triton.jit
def _geglu_linear(
    x, weight, bias, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    tiles_m, tiles_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
    for tile in range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0)):
        # Tiles of GROUP rows follow each other, so that what they share is still in the cache.
        group = tile // (GROUP * tiles_n)
        size = min(tiles_m - group * GROUP, GROUP)
        row = (group * GROUP + (tile % (GROUP * tiles_n)) % size) * BM
        col = ((tile % (GROUP * tiles_n)) // size) * BN
        product = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            product = tl.dot(x.load([row, k]), weight.load([col, k]).T, product)
        product += tl.load(bias + col + tl.arange(0, BN)).to(tl.float32)[None, :]
        value, gate = tl.split(product.reshape(BM, BN // 2, 2))
        out.store([row, col // 2], (value * gelu(gate, EXACT)).to(out.dtype))


def geglu_linear(x: Tensor, weight: Tensor, bias: Tensor, exact: bool = False) -> Tensor:
    """Return ``value * gelu(gate)`` of a linear layer whose outputs alternate value, gate, value, gate...

    One kernel, so that the product, twice as wide as what is made of it, never goes to memory. It is tiled for Hopper;
    older GPUs, and layers that its
    tiles do not fit, take two steps.

    Parameters
    ----------
    x : (..., k)
    weight : (2 n, k)
    bias : (2 n,)
    exact : GELU by the error function, slower

    Returns
    -------
    (..., n)
    """
    on_gpu, (bm, bn, bk) = x.is_cuda, (128, 256, 64)
    if weight.shape[0] % bn or (on_gpu and torch.cuda.get_device_capability(x.device) < HOPPER):
        return plain.geglu_linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    (m, k), n = rows.shape, weight.shape[0]
    out = torch.empty(m, n // 2, device=x.device, dtype=x.dtype)
    count = triton.cdiv(m, bm) * triton.cdiv(n, bn)
    if on_gpu:
        count = min(count, torch.cuda.get_device_properties(x.device).multi_processor_count)
    _geglu_linear[(count,)](
        TensorDescriptor.from_tensor(rows, [bm, bk]), TensorDescriptor.from_tensor(weight, [bn, bk]), bias,
        TensorDescriptor.from_tensor(out, [bm, bn // 2]), m, n, k, BM=bm, BN=bn, BK=bk, GROUP=8, EXACT=exact,
        num_warps=8, num_stages=4,
    )  # fmt: skip
    return out.view(*x.shape[:-1], n // 2)
