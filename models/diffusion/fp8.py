"""Transformer blocks whose products are of 8-bit floats (e4m3), each row scaled by its own largest value.

Weights are rounded once, by output channel; what they multiply is rounded by token, in the pass that makes it.
"""

# Triton has no types, and what it compiles is Python in its looks only.
# mypy: disable-error-code="override, import-untyped, untyped-decorator, no-untyped-def"

from typing import Any, cast

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from voxelight.models.diffusion.kernels import gelu
from voxelight.models.diffusion.speed import Block, attend, keep_constant

LARGEST = 448.0
Rounded = tuple[Tensor, Tensor]
"""Values (row, dim) float8_e4m3fn and scales (row, 1) float32; their product is what was rounded."""


def use_fp8(unet: nn.Module) -> None:
    """Let the transformer blocks of a prepared UNet, bfloat16 on a GPU, multiply in 8 bits, in place."""
    for block in unet.modules():
        if isinstance(block, Block):
            block.__class__ = Block8
            cast(Block8, block).settle8()


class Block8(Block):
    """A block of 8-bit products. Its residual stays in bfloat16, and attention works in it."""

    def settle8(self: Any) -> None:
        """Round the weights."""
        weights = {
            "self_in": self.query_key_value,
            "self_out": self.attn1.to_out[0].weight,
            "cross_in": self.attn2.to_q.weight,
            "cross_out": self.attn2.to_out[0].weight,
            "wide": self.ff.net[0].proj.weight,
            "narrow": self.ff.net[2].weight,
        }
        for name, weight in weights.items():
            values, scales = round_rows(weight)
            keep_constant(self, f"{name}_values", values)
            keep_constant(self, f"{name}_scales", scales.t().contiguous())

    def multiply(self: Any, x: Rounded, name: str, bias: Tensor | None = None) -> Tensor:
        """Return ``x weight^T + bias``, (row, out) bfloat16."""
        product: Tensor = torch._scaled_mm(
            x[0],
            getattr(self, f"{name}_values").t(),
            x[1],
            getattr(self, f"{name}_scales"),
            bias=bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return product

    def forward(self: Any, hidden_states: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Return x (b, token, dim), changed in place."""
        x = hidden_states
        y = self.multiply(normalise_rows(x, None, self.shifts[0], self.norm1), "self_in").view(*x.shape[:2], -1)
        query, key, value = y.chunk(3, dim=-1)
        y = attend(query, key, value, self.attn1.heads)
        added = self.multiply(round_rows(y), "self_out")
        y = self.multiply(normalise_rows(x, added, self.shifts[1], self.norm2), "cross_in").view(x.shape)
        key, value = self.find_key_value(encoder_hidden_states) if self.kept is None else self.kept
        added = self.multiply(round_rows(attend(y, key, value, self.attn2.heads)), "cross_out")
        y = self.multiply(normalise_rows(x, added, self.shifts[2], self.norm3), "wide", self.ff.net[0].proj.bias)
        x += self.multiply(gate_rows(y), "narrow").view(x.shape)
        return x


@triton.jit
def _store_rounded(values, inside, at, row, rows, out, scales, LARGEST: tl.constexpr):
    largest = tl.max(tl.where(inside, tl.abs(values), 0.0), axis=1)
    scale = tl.maximum(largest, 1e-12) / LARGEST
    tl.store(out + at, (values / scale[:, None]).to(tl.float8e4nv), mask=inside)
    tl.store(scales + row, scale, mask=row < rows)


@triton.jit
def _round(x, out, scales, rows, D: tl.constexpr, BLOCK: tl.constexpr, R: tl.constexpr, LARGEST: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    col = tl.arange(0, BLOCK)[None, :]
    inside = (row[:, None] < rows) & (col < D)
    at = row[:, None] * D + col
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    _store_rounded(values, inside, at, row, rows, out, scales, LARGEST)


@triton.jit
def _normalise(
    x, added, shift, weight, bias, out, scales, rows, eps, D: tl.constexpr, BLOCK: tl.constexpr, R: tl.constexpr,
    HAS_ADDED: tl.constexpr, LARGEST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    col = tl.arange(0, BLOCK)[None, :]
    inside = (row[:, None] < rows) & (col < D)
    at = row[:, None] * D + col
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_ADDED:
        values += tl.load(added + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(x + at, values.to(x.dtype.element_ty), mask=inside)
    values += tl.load(shift + col, mask=col < D, other=0.0)
    centred = tl.where(col < D, values - tl.sum(values, axis=1)[:, None] / D, 0.0)
    normed = centred * tl.rsqrt(tl.sum(centred * centred, axis=1)[:, None] / D + eps)
    gain = tl.load(weight + col, mask=col < D, other=0.0).to(tl.float32)
    normed = normed * gain + tl.load(bias + col, mask=col < D, other=0.0).to(tl.float32)
    _store_rounded(normed, inside, at, row, rows, out, scales, LARGEST)


@triton.jit
def _gate(x, out, scales, rows, D: tl.constexpr, BLOCK: tl.constexpr, LARGEST: tl.constexpr, EXACT: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    col = tl.arange(0, 2 * BLOCK)[None, :]
    pairs = tl.load(x + row[:, None] * 2 * D + col, mask=col < 2 * D, other=0.0).to(tl.float32)
    value, gate = tl.split(pairs.reshape(1, BLOCK, 2))
    half = tl.arange(0, BLOCK)[None, :]
    _store_rounded(value * gelu(gate, EXACT), half < D, row[:, None] * D + half, row, rows, out, scales, LARGEST)


def round_rows(x: Tensor) -> Rounded:
    """Round rows (..., dim), each scaled to the largest number of 8 bits."""
    rows, dim, values, scales = _empty(x, x.shape[-1])
    _round[(triton.cdiv(rows, 2),)](
        x.contiguous(), values, scales, rows, D=dim, BLOCK=triton.next_power_of_2(dim), R=2, LARGEST=LARGEST
    )
    return values, scales


def normalise_rows(x: Tensor, added: Tensor | None, shift: Tensor, norm: Any) -> Rounded:
    """Add to x (b, token, dim) in place, and round the layer norm of ``x + shift``."""
    rows, dim, values, scales = _empty(x, x.shape[-1])
    _normalise[(triton.cdiv(rows, 2),)](
        x, added, shift, norm.weight, norm.bias, values, scales, rows, norm.eps, D=dim,
        BLOCK=triton.next_power_of_2(dim), R=2, HAS_ADDED=added is not None, LARGEST=LARGEST,
    )  # fmt: skip
    return values, scales


def gate_rows(product: Tensor, exact: bool = False) -> Rounded:
    """Round ``value * gelu(gate)`` of rows (row, 2 dim) that alternate value, gate, value, gate..."""
    rows, dim, values, scales = _empty(product, product.shape[-1] // 2)
    block = triton.next_power_of_2(dim)
    _gate[(rows,)](product, values, scales, rows, D=dim, BLOCK=block, LARGEST=LARGEST, EXACT=exact, num_warps=8)
    return values, scales


def _empty(x: Tensor, dim: int) -> tuple[int, int, Tensor, Tensor]:
    rows = x.numel() // x.shape[-1]
    values = torch.empty(rows, dim, device=x.device, dtype=torch.float8_e4m3fn)
    return rows, dim, values, torch.empty(rows, 1, device=x.device, dtype=torch.float32)
