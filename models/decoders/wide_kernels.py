"""A Triton kernel that moves the weights of a wide linear layer by AdamW and never writes their gradient.

The gradient is the product of two small factors, so it costs less to make again on the chip, tile by tile, than to be
written and read: 8 bytes a weight.
"""

# Triton has no types, and what it compiles is Python in its looks only.
# mypy: disable-error-code="import-untyped, untyped-decorator, no-untyped-def"

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 32
"""Samples that are summed at once; a batch of 24 is one such block."""


class Tile(NamedTuple):
    """What one program of the kernel takes: four weights a thread, so that none of the four has to change hands.

    Parameters
    ----------
    outs, ins : weights along the outputs and along the inputs, powers of two and at least 16
    warps : of 32 threads
    """

    outs: int = 16
    ins: int = 64
    warps: int = 8


class Rates(NamedTuple):
    """Numbers of one AdamW step, named as `torch.optim.AdamW` does."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float


@triton.jit
def _step(
    weight, exp_avg, exp_avg_sq, half, slope, x, corrections, samples, OUT, IN, decay, keep1, add1, keep2, add2, eps,
    OUTS: tl.constexpr, INS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(IN, INS)
    first_out, first_col = tl.program_id(0) // across * OUTS, tl.program_id(0) % across * INS
    out, col = first_out + tl.arange(0, OUTS), first_col + tl.arange(0, INS)
    # Only the corner of the tile needs 64 bits.
    corner = first_out.to(tl.int64) * IN + first_col
    at = corner + (tl.arange(0, OUTS)[:, None] * IN + tl.arange(0, INS)[None, :])
    inside = (out < OUT)[:, None] & (col < IN)[None, :]
    rate, root = tl.load(corrections), tl.load(corrections + 1)
    # Turned round, and before anything is loaded: Triton then brings the product into the layout of the loads. Else all
    # loads and stores go through shared memory into the layout of the product.
    turned = tl.zeros([INS, OUTS], tl.float32)
    for first in range(0, samples, ROWS):
        row = first + tl.arange(0, ROWS)
        there = (row < samples)[:, None]
        steep = tl.load(
            slope + row.to(tl.int64)[:, None] * OUT + out[None, :], mask=there & (out < OUT)[None, :], other=0.0
        )
        given = tl.load(x + row[:, None] * IN + col[None, :], mask=there & (col < IN)[None, :], other=0.0)
        turned += tl.dot(tl.trans(given), steep)
    grad = tl.trans(turned)
    value = tl.load(weight + at, mask=inside, other=0.0)
    mean = tl.load(exp_avg + at, mask=inside, other=0.0)
    square = tl.load(exp_avg_sq + at, mask=inside, other=0.0)
    mean = keep1 * mean + add1 * grad
    square = keep2 * square + add2 * grad * grad
    value -= decay * value
    value -= rate * mean / (tl.sqrt(square) / root + eps)
    tl.store(weight + at, value, mask=inside)
    tl.store(exp_avg + at, mean, mask=inside)
    tl.store(exp_avg_sq + at, square, mask=inside)
    tl.store(half + at, value.to(half.dtype.element_ty), mask=inside)


def adamw_(
    weights: tuple[Tensor, Tensor, Tensor, Tensor], slope: Tensor, x: Tensor, step: Tensor, rates: Rates,
    tile: Tile = Tile(),  # noqa: B008
) -> None:  # fmt: skip
    r"""Take one step of AdamW in place, with the gradient :math:`slope^T x` (Loshchilov and Hutter 2019, algorithm 2).

    Parameters
    ----------
    weights : weights, moments and squared moments (out, in), float32, and a copy of the weights (out, in) in the type
        of the layer's products, which is overwritten; all contiguous
    slope : (sample, out), of the loss by the layer's output, in the type of the products
    x : (sample, in), what the layer was given, in the same type
    step : scalar float32 on the device, steps taken with this one
    rates : of this step
    tile : of a program
    """
    weight, exp_avg, exp_avg_sq, half = weights
    out, across = weight.shape
    # In float64, as early corrections are differences of numbers near 1; on the device, which nobody waits for so.
    taken = step.double()
    rate = rates.lr / (1 - torch.pow(rates.beta1, taken))
    corrections = torch.stack([rate, (1 - torch.pow(rates.beta2, taken)).sqrt()]).to(weight.device, torch.float32)
    grid = (triton.cdiv(out, tile.outs) * triton.cdiv(across, tile.ins),)
    _step[grid](
        weight, exp_avg, exp_avg_sq, half, slope.contiguous(), x.contiguous(), corrections, len(x), out, across,
        rates.lr * rates.weight_decay, rates.beta1, 1 - rates.beta1, rates.beta2, 1 - rates.beta2, rates.eps,
        OUTS=tile.outs, INS=tile.ins, ROWS=ROWS, num_warps=tile.warps, num_stages=1,
    )  # fmt: skip
    for changed in weights:  # Triton writes past autograd, which is to know that what it may have kept is another
        torch.autograd.graph.increment_version(changed)
