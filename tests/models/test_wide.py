import os
import subprocess
import sys

import pytest
import torch

from voxelight.models.decoders import wide
from voxelight.models.decoders.wide import WideLinear

KERNEL = """
import torch
from voxelight.models.decoders.wide_kernels import Rates, adamw_

torch.manual_seed(0)
# Neither a multiple of a tile; fewer samples than are summed at once, and one more.
for out, across, samples, dtype in ((37, 70, 5, torch.float32), (37, 70, 33, torch.float16)):
    plain = torch.nn.Parameter(torch.randn(out, across))
    optimiser = torch.optim.AdamW([plain], weight_decay=0.1, fused=True)
    group, first = optimiser.param_groups[0], plain.detach().clone()
    weight = torch.nn.Parameter(first.clone())
    mean, square, half = torch.zeros_like(first), torch.zeros_like(first), torch.full_like(first, torch.nan).to(dtype)
    for step in range(1, 4):
        group.update(lr=0.01 * step, betas=(0.95 - 0.02 * step, 0.999))
        slope, x = torch.randn(samples, out).to(dtype), torch.randn(samples, across).to(dtype)
        plain.grad = slope.T.float() @ x.float()
        optimiser.step()
        version = weight._version
        rates = Rates(group["lr"], *group["betas"], group["eps"], group["weight_decay"])
        adamw_((weight, mean, square, half), slope, x, torch.tensor(float(step)), rates)
        assert weight._version > version, "autograd would take what it kept for what it is"
        expected = optimiser.state[plain]
        for found, right in (
            (weight - first, plain - first), (mean, expected["exp_avg"]), (square, expected["exp_avg_sq"])
        ):
            off = (found - right).norm() / right.norm()
            assert off < 1e-5, (dtype, step, float(off))
        assert torch.equal(half, weight.to(dtype))
"""


@pytest.fixture
def layer(monkeypatch):
    """A layer that takes the way of a GPU under autocast, in a type that a CPU multiplies exactly."""
    monkeypatch.setattr(wide, "find_half", lambda x, weight: torch.float32)
    torch.manual_seed(0)
    return WideLinear(6, 9)


def test_the_kernel_steps_as_adamw_does():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}  # on a CPU, and only where set before the import
    done = subprocess.run([sys.executable, "-c", KERNEL], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_factors_multiply_to_the_gradient_that_is_not_written(layer):
    layer.factors = []
    x, slope = torch.randn(2, 4, 6, requires_grad=True), torch.randn(2, 4, 9)
    plain = torch.nn.functional.linear(x, layer.weight, layer.bias)
    expected = torch.autograd.grad(plain, [x, layer.weight, layer.bias], slope)
    out = layer(x)
    torch.testing.assert_close(out, plain)
    out.backward(slope)
    (found,) = layer.factors
    assert layer.weight.grad is None
    torch.testing.assert_close((x.grad, found.slope.T @ found.x, layer.bias.grad), expected)


def test_weights_that_are_not_trained_leave_no_factors(layer):
    layer.factors = []
    layer.weight.requires_grad_(False)
    layer(torch.randn(4, 6)).sum().backward()
    assert not layer.factors
    assert layer.bias.grad is not None


CHANGES = {
    "in place": lambda layer, other: layer.weight.mul_(2),
    "loaded": lambda layer, other: layer.load_state_dict(other.state_dict()),
    "loaded in its place": lambda layer, other: layer.load_state_dict(other.state_dict(), assign=True),
    "moved": lambda layer, other: setattr(layer.weight, "data", other.weight.data),
    "by an optimiser": lambda layer, other: torch.optim.SGD([layer.weight]).step(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_kept_copy_serves_until_the_weights_change(change):
    layer, other = WideLinear(6, 9), WideLinear(6, 9)
    half = layer.weight.detach().to(torch.bfloat16)
    layer.keep(half)
    assert layer.halve(torch.bfloat16) is half
    assert layer.halve(torch.float16).dtype == torch.float16
    layer.weight.grad = torch.ones_like(layer.weight)
    with torch.no_grad():
        CHANGES[change](layer, other)
    assert not torch.equal(layer.weight.to(torch.bfloat16), half)
    assert torch.equal(layer.halve(torch.bfloat16), layer.weight.to(torch.bfloat16))


def test_a_kept_copy_is_no_part_of_the_state():
    layer = WideLinear(6, 9)
    layer.keep(layer.weight.detach().to(torch.bfloat16))
    assert set(layer.state_dict()) == {"weight", "bias"}
