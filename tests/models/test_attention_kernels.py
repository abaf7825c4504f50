import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from voxelight.models.decoders.mixer import mixer_block, shift
from voxelight.models.diffusion.prior_network import BUCKETS, RelativeBias

KERNELS = """
import torch
from torch.nn import functional as F
from voxelight.models.diffusion.attention_kernels import attend, fit_width

torch.manual_seed(0)


def plain(q, k, v, bias):
    weights = (16 * torch.einsum("bhnd,bmd->bhnm", q, k) + bias).softmax(dim=-1)
    return torch.einsum("bhnm,bmd->bnhd", weights, v)


def fused(q, k, v, bias):
    return attend(*map(fit_width, (q, k, v)), bias, 16.0)[0][..., : q.shape[-1]]


def run(function, above, *given):
    given = [part.detach().requires_grad_() for part in given]
    out = function(*given)
    return [out, *torch.autograd.grad(out, given, above.to(out.dtype))]


# A row and a key more than a tile; more heads than a program takes; a width that is no power of two.
for b, heads, n, dim, dtype, tolerance in (
    (2, 3, 65, 16, torch.float32, 1e-5), (2, 10, 17, 12, torch.float32, 1e-5), (2, 3, 70, 16, torch.float16, 2e-3),
):
    q, k = (F.normalize(torch.randn(*shape, dim), dim=-1).to(dtype) for shape in ((b, heads, n), (b, n + 1)))
    v, above = torch.randn(b, n + 1, dim).to(dtype), torch.randn(b, n, heads, dim).to(dtype)
    bias = torch.randn(heads, n, 16 * (n // 16 + 1))[..., : n + 1]
    expected = run(plain, above, *(part.float() for part in (q, k, v)), bias)
    for found, right in zip(run(fused, above, q, k, v, bias), expected, strict=True):
        off = (found.float() - right).norm() / right.norm()
        assert off < tolerance, (dtype, float(off))

q, k, v = (torch.randn(*shape, 16, requires_grad=True) for shape in ((2, 3, 20), (2, 21), (2, 21)))
torch.library.opcheck(attend, (q, k, v, torch.randn(3, 20, 32, requires_grad=True)[..., :21], 16.0))
"""


def test_the_kernels_are_attention_with_its_slopes():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}  # on a CPU, and only where set before the import
    done = subprocess.run([sys.executable, "-c", KERNELS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("length", [1, 2, 15, 129, 300])
def test_the_table_of_the_bias_gets_the_slopes_of_all_entries_of_a_bucket(length):
    bias = RelativeBias(2).double()
    with torch.no_grad():
        bias.relative_attention_bias.weight.copy_(torch.arange(BUCKETS)[:, None] + torch.tensor([0.0, 100.0]))
    found = bias(length)
    slope = torch.rand(2, length, length + 1, dtype=torch.double)
    found.backward(slope)
    bucket = found[0].detach().long().flatten()
    expected = torch.zeros(BUCKETS, 2, dtype=torch.double).index_add_(0, bucket, slope.flatten(1).T)
    torch.testing.assert_close(bias.relative_attention_bias.weight.grad, expected)


def test_a_norm_over_one_entry_is_its_bias_and_passes_nothing_to_its_gain():
    blocks = nn.ModuleList(mixer_block(1, dropout=0.0) for _ in range(3))
    for parameter in blocks.parameters():
        nn.init.normal_(parameter)
    x, slope = torch.randn(4, 1, 6), torch.randn(4, 1, 6)
    found, expected = shift(blocks, x, each=True), sum(block(torch.zeros(4, 6, 1)) for block in blocks).mT
    torch.testing.assert_close(found, expected)
    parameters = list(blocks.parameters())
    for one, other in zip(
        torch.autograd.grad(found, parameters, slope), torch.autograd.grad(expected, parameters, slope), strict=True
    ):
        torch.testing.assert_close(one, other)
