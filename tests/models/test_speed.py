import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from voxelight.models.diffusion.autoencoder import AutoencoderConfig
from voxelight.models.diffusion.samplers import Guided, sample_euler
from voxelight.models.diffusion.schedules import edm_sigmas
from voxelight.models.diffusion.speed import prepare_autoencoder, prepare_unet
from voxelight.models.diffusion.unet import EpsDenoiser, UNetConfig
from voxelight.models.errors import BadInput

SIZES = {"channels": (32, 64, 128), "depth": (1, 1, 2), "head_dim": 32, "context_dim": 48, "vector_dim": 64}


def fill(module: nn.Module) -> nn.Module:
    """Give every parameter, biases and gains too, numbers that would show if they were left out."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        deviation = 0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        with torch.no_grad():
            parameter.normal_(0, deviation, generator=generator)
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.add_(1)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    return fill(UNetConfig(**SIZES).build())


@pytest.fixture
def prepared(plain) -> nn.Module:
    return prepare_unet(copy.deepcopy(plain))


def inputs(b=2, h=16, w=16, words=9, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    named = {"encoder_hidden_states": draw(b, words, 48), "class_labels": draw(b, 64), "return_dict": False}
    return (draw(b, 4, h, w), torch.tensor([999, 500, 26][:b])), named


def distance(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", [{}, {"b": 1}, {"b": 3}, {"h": 8, "w": 24}, {"words": 77}])
def test_a_prepared_unet_gives_what_the_plain_one_gives(plain, prepared, shape):
    given, named = inputs(**shape)
    assert distance(prepared(*given, **named)[0], plain(*given, **named)[0]) < 1e-5


def test_sides_that_do_not_halve_evenly_are_kept(plain, prepared):
    given, named = inputs(h=10, w=14)
    found = prepared(*given, **named)[0]
    assert found.shape == (2, 4, 10, 14)
    assert distance(found, plain(*given, **named)[0]) < 1e-5


@pytest.mark.parametrize(
    "sizes",
    [
        {"layers": 1},
        {"layers": 3},
        {"depth": (1, 2, 1)},
        {"attention": (True, True, True)},
        {"channels": (32, 64), "depth": (1, 2), "attention": (False, True)},
    ],
)
def test_every_size_can_be_prepared(sizes):
    plain = fill(UNetConfig(**SIZES | sizes).build())
    given, named = inputs()
    expected = plain(*given, **named)[0]
    assert distance(prepare_unet(plain)(*given, **named)[0], expected) < 1e-5


def test_a_context_is_projected_once_and_noticed_when_it_changes(plain, prepared):
    projected = []
    key = prepared.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    key.register_forward_hook(lambda module, given, out: projected.append(given[0]))
    given, named = inputs()
    for _ in range(3):
        prepared(*given, **named)
    assert len(projected) == 1
    named["encoder_hidden_states"].mul_(-2)  # in place
    assert distance(prepared(*given, **named)[0], plain(*given, **named)[0]) < 1e-5
    named["encoder_hidden_states"] = torch.randn(2, 9, 48)  # another of the same shape
    assert distance(prepared(*given, **named)[0], plain(*given, **named)[0]) < 1e-5
    assert len(projected) == 3


def test_two_batches_in_turn_keep_their_own_context(plain, prepared):
    calls = [inputs(), inputs(b=3, seed=1), inputs(seed=2)]
    for given, named in [*calls, *calls]:
        with torch.inference_mode():
            found = prepared(*given, **named)[0]
        assert distance(found, plain(*given, **named)[0]) < 1e-5


def test_a_block_called_by_itself_has_no_context_of_an_earlier_call(plain, prepared):
    given, named = inputs()
    prepared(*given, **named)
    x, context = torch.randn(1, 128, 4, 4), torch.randn(1, 9, 48)
    found = prepared.mid_block.attentions[0](x, context)[0]
    expected = plain.mid_block.attentions[0](x, context, return_dict=False)[0]
    assert distance(found, expected) < 1e-5


def test_a_whole_loop_of_steps_ends_where_the_plain_one_does(plain, prepared):
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(2, 2, 9, 48, generator=generator)
    vectors, x = torch.randn(2, 2, 64, generator=generator), torch.randn(2, 4, 16, 16, generator=generator)
    sigmas = edm_sigmas(5)
    ends = [
        sample_euler(
            Guided(EpsDenoiser(unet), contexts[0], vectors[0], contexts[1], vectors[1], 5.0), x * sigmas[0], sigmas
        )
        for unet in (prepared, plain)
    ]
    assert distance(*ends) < 1e-4


def test_hooks_still_see_every_call(prepared):
    seen = []
    prepared.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    given, named = inputs(b=3)
    prepared(*given, **named)
    prepared(*given, **named)
    assert seen == [3, 3]


def test_the_names_of_weights_stay(plain, prepared):
    assert {name: one.shape for name, one in prepared.state_dict().items()} == {
        name: one.shape for name, one in plain.state_dict().items()
    }
    assert not any(parameter.requires_grad for parameter in prepared.parameters())


def test_what_can_not_be_prepared_is_refused(plain, prepared):
    with pytest.raises(BadInput, match="prepared"):
        prepare_unet(prepared)
    with pytest.raises(BadInput, match="Linear"):
        prepare_unet(nn.Linear(2, 2))
    with pytest.raises(BadInput, match="bfloat16"):
        prepare_unet(copy.deepcopy(plain), fp8=True)


def test_a_prepared_autoencoder_gives_what_the_plain_one_gives():
    plain = fill(AutoencoderConfig(channels=(32, 64, 64), layers=1).build())
    images, latents = torch.rand(2, 3, 32, 32), torch.randn(2, 4, 8, 8)
    expected = plain.encode(images), plain.decode(latents)
    prepared = prepare_autoencoder(plain)
    assert distance(prepared.encode(images), expected[0]) < 1e-5
    assert distance(prepared.decode(latents), expected[1]) < 1e-5


KERNELS = """
import torch
from torch.nn import functional as F
from voxelight.models.diffusion import fp8, kernels, plain

torch.manual_seed(0)


def near(found, expected, tolerance):
    off = (found.float() - expected.float()).norm() / expected.float().norm()
    assert off < tolerance, (float(off), tolerance)


x, shift = torch.randn(3, 7, 40).half(), torch.randn(40)
norm = torch.nn.LayerNorm(40).half().requires_grad_(False)
near(kernels.layer_norm(x, shift, norm.weight, norm.bias, 1e-5), F.layer_norm(x.float() + shift, (40,)), 1e-3)

norm = torch.nn.GroupNorm(32, 96).requires_grad_(False)
torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
x = torch.randn(2, 96, 10, 9).to(memory_format=torch.channels_last)
parts, add = (x[:, :32], x[:, 32:]), torch.randn(2, 96)
near(kernels.group_norm(parts, add, norm, True), plain.group_norm(parts, add, norm, True), 1e-5)
near(kernels.group_norm([x], None, norm, False), plain.group_norm([x], None, norm, False), 1e-5)
assert torch.equal(kernels.double(x), plain.double(x))
y, bias = torch.randn_like(x), torch.randn(96)
near(kernels.add_bias_(x.clone(), y, bias), x + y + bias[:, None, None], 1e-6)

x, weight, bias = torch.randn(2, 70, 128).half(), torch.randn(256, 128).half() / 11, torch.randn(256).half()
expected = plain.geglu_linear(x.float(), weight.float(), bias.float())
near(kernels.geglu_linear(x, weight, bias, exact=True), expected, 1e-3)

# 8 bits keep three of the mantissa; the interpreter cuts where the GPU rounds.
x, added, norm = torch.randn(3, 5, 40), torch.randn(15, 40), torch.nn.LayerNorm(40).requires_grad_(False)
values, scales = fp8.round_rows(x)
near(values.float() * scales, x.flatten(0, 1), 0.07)
expected = x + added.view_as(x)
values, scales = fp8.normalise_rows(x, added, shift, norm)
near(values.float() * scales, norm(expected + shift).flatten(0, 1), 0.09)
assert torch.equal(x, expected)
product = torch.randn(6, 24)
values, scales = fp8.gate_rows(product, exact=True)
near(values.float() * scales, product[:, ::2] * F.gelu(product[:, 1::2]), 0.07)
"""


def test_kernels_compute_what_their_plain_counterparts_do():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}  # on a CPU, and only where set before the import
    done = subprocess.run([sys.executable, "-c", KERNELS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_benchmark_starts_without_the_service():
    root = Path(__file__).resolve().parents[2]
    code = (
        "import runpy, sys; sys.argv = ['mindeye2.py', '--small', '--only', 'ceiling'];"
        "runpy.run_path('tests/benchmarks/mindeye2.py', run_name='__main__');"
        "assert not {'sqlalchemy', 'dbos', 'streamlit'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"matrix_tflops"' in done.stdout
