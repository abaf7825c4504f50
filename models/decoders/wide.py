"""A linear layer with far more weights than it is given numbers, whose cost is the traffic of its weights."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class WideLinear(nn.Linear):
    """A linear layer that, under autocast on a GPU, leaves the gradient of its weights in float32 at once.

    Autocast would write it in half precision and read it again to widen it, which for 1.7 billion weights takes as
    long as all products of the layer together.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) of x (..., in)."""
        if x.device.type != "cuda" or not torch.is_autocast_enabled("cuda") or self.weight.dtype != torch.float32:
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cuda")
        out = cast(Tensor, _Product.apply(x.flatten(0, -2).to(dtype), self.weight, self.bias, dtype))
        return out.view(*x.shape[:-1], -1)


class _Product(torch.autograd.Function):
    """A product in half precision of weights in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        half = weight.to(dtype)
        ctx.save_for_backward(x, half)
        return torch.addmm(bias.to(dtype), x, half.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, half = ctx.saved_tensors
        weight = torch.mm(slope.T, x, out_dtype=torch.float32)
        return slope @ half, weight, slope.sum(0, dtype=torch.float32), None
