"""A linear layer with far more weights than it is given numbers, whose cost is the traffic of its weights."""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Factors(NamedTuple):
    """What the gradient of the weights is the product of, `slope.T @ x`, in the type of the layer's products.

    Parameters
    ----------
    slope : tensor (sample, out)
    x : tensor (sample, in)
    """

    slope: Tensor
    x: Tensor


class WideLinear(nn.Linear):
    """A linear layer that, under autocast on a GPU, leaves the gradient of its weights in float32 at once.

    Autocast would write it in half precision and read it again to widen it, which for 1.7 billion weights takes as
    long as all products of the layer together.

    Attributes
    ----------
    factors : where the way back under autocast leaves the factors of the gradient in its place, which is then never
        written; None where it is. Whoever sets a list has to step the weights, see `neuro.training.in_place`
    """

    factors: list[Factors] | None = None
    _kept: tuple[Tensor, tuple[int, int]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) of x (..., in)."""
        dtype = find_half(x, self.weight)
        if dtype is None:
            return super().forward(x)
        half = self.halve(dtype)
        out = cast(Tensor, _Product.apply(x.flatten(0, -2).to(dtype), self.weight, self.bias, half, self.factors))
        return out.view(*x.shape[:-1], -1)

    def halve(self, dtype: torch.dtype) -> Tensor:
        """Return the weights (out, in) in half precision, the copy that was kept if they are the same still."""
        kept = self._kept
        if kept is not None and kept[0].dtype == dtype and kept[1] == self._written():
            return kept[0]
        return self.weight.detach().to(dtype)

    def keep(self, half: Tensor | None) -> None:
        """Keep a copy (out, in) of the weights as they are now, in half precision, or none."""
        self._kept = None if half is None else (half, self._written())

    def _written(self) -> tuple[int, int]:
        """Return what is another once the weights are changed, loaded or moved.

        Not so where they are changed in place through `.data`, or by an optimiser that is fused.
        """
        return self.weight._version, self.weight.data_ptr()


def find_half(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """Return the type of the products, if it is another than that of the weights."""
    on = x.device.type == "cuda" and torch.is_autocast_enabled("cuda") and weight.dtype == torch.float32
    return torch.get_autocast_dtype("cuda") if on else None


class _Product(torch.autograd.Function):
    """A product in half precision of weights in float32."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, half: Tensor, factors: list[Factors] | None
    ) -> Tensor:
        ctx.save_for_backward(x, half)
        ctx.factors = factors
        return torch.addmm(bias.to(half.dtype), x, half.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None, None]:
        x, half = ctx.saved_tensors
        weight = None
        if ctx.factors is None:
            weight = torch.mm(slope.T, x, out_dtype=torch.float32)
        elif ctx.needs_input_grad[1]:
            ctx.factors.append(Factors(slope, x))
        return slope @ half, weight, slope.sum(0, dtype=torch.float32), None, None
