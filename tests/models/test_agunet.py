"""AGUNet and DAUNet: every part switched on and off, and attention beside its plain formula."""

import itertools

import pytest
import torch
from pydantic import ValidationError

from voxelight.models.segmentation.agunet import AGUNetConfig, AttentionGate
from voxelight.models.segmentation.attention import ChannelAttention, PositionAttention, attend, channel_map
from voxelight.models.segmentation.daunet import DAGUNetConfig, DAUNetConfig, Guide

SMALL = {"in_channels": 2, "classes": 3, "filters": (4, 6, 8)}
LEVELS = {True: [(13, 16, 9), (7, 8, 5)], False: [(13, 16, 9)]}


def run(config):
    torch.manual_seed(0)
    network = config.build().eval()
    with torch.inference_mode():
        levels = network.forward_levels(torch.randn(1, 2, 13, 16, 9))
    return " ".join(dict(network.named_parameters())), [tuple(level.shape[2:]) for level in levels]


def count(network):
    return sum(value.numel() for name, value in network.state_dict().items() if "num_batches" not in name)


@pytest.mark.parametrize("switches", list(itertools.product((False, True), repeat=3)))
def test_every_part_of_agunet_can_be_switched_off(switches):
    gates, pyramid, deep = switches
    names, shapes = run(AGUNetConfig(**SMALL, attention_gates=gates, multi_scale_input=pyramid, deep_supervision=deep))
    assert (".ag." in names) is gates
    assert (".ms_conv." in names) is pyramid
    assert shapes == LEVELS[deep]


@pytest.mark.parametrize("switches", list(itertools.product((False, True), repeat=5)))
def test_every_part_of_daunet_can_be_switched_off(switches):
    parts = ("attention_gates", "dual_attention", "attention_guiding", "multi_scale_input", "deep_supervision")
    on = dict(zip(parts, switches, strict=True))
    names, shapes = run(DAUNetConfig(**SMALL, **on))
    marks = (".ag.", "attention.position.", ".guide.", ".ms_conv.")
    assert [mark in names for mark in marks] == [on[part] for part in parts[:4]]
    assert shapes == LEVELS[on["deep_supervision"]]


@pytest.mark.parametrize("config", [AGUNetConfig, DAUNetConfig, DAGUNetConfig])
def test_a_level_needs_a_width(config):
    with pytest.raises(ValidationError):
        config(filters=(4,))
    with pytest.raises(ValidationError, match="1 poolings between 3 levels"):
        config(filters=(4, 6, 8), pooling=((2, 2, 1),))


@pytest.mark.parametrize("config", [AGUNetConfig, DAUNetConfig, DAGUNetConfig])
def test_an_axis_that_is_not_pooled_is_seen_by_its_neighbours_alone(config):
    """A change in one plane of an axis that no level pools reaches as far as the convolutions do, and no farther."""
    torch.manual_seed(0)
    switched = {"dual_attention": False} if config is not AGUNetConfig else {}
    network = config(filters=(4, 6), pooling=((2, 2, 1),), attention_gates=False, **switched).build().eval()
    x = torch.randn(1, 1, 8, 8, 41)
    other = x.clone()
    other[..., 20] += 5
    with torch.inference_mode():
        moved = (network(x) - network(other)).abs().amax((0, 1, 2, 3)) > 0
    reach = [int(place) - 20 for place in moved.nonzero()]
    assert (min(reach), max(reach)) == (-7, 7)  # two convolutions down, two below, one up, two up: a voxel each
    same = config(filters=(4, 6, 8)).build().state_dict()
    apart = config(filters=(4, 6, 8), pooling=((2, 2, 1), (1, 2, 2))).build().state_dict()
    assert {name: value.shape for name, value in same.items()} == {name: value.shape for name, value in apart.items()}


def test_the_published_widths_have_the_published_sizes():
    assert count(AGUNetConfig().build()) == 18_663_932
    assert count(DAGUNetConfig(channel_form="released", guiding_form="released").build()) == 31_044_090


def test_dropout_makes_training_random_and_use_not():
    torch.manual_seed(0)
    network, x = AGUNetConfig(**SMALL, dropout=0.5).build().eval(), torch.randn(1, 2, 8, 8, 8)
    torch.testing.assert_close(network(x), network(x))
    network.train()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize("how", ["concat", "add"])
def test_a_gate_only_weakens_its_skip(how):
    gate = AttentionGate(AGUNetConfig(gate=how), 6, 4, 3).eval()
    g, x = torch.randn(1, 6, 4, 4, 4), torch.randn(1, 4, 4, 4, 4)
    with torch.inference_mode():
        psi = gate.weigh(g, x)
        assert psi.shape == (1, 1, 4, 4, 4)
        assert psi.min() >= 0
        assert psi.max() <= 1
        torch.testing.assert_close(gate(g, x), x * psi)


@pytest.mark.parametrize("widths", [(1, 8), (3, 20), (16, 6)])
def test_attention_without_a_map_is_the_plain_formula(widths):
    torch.manual_seed(0)
    inner, outer = widths
    q, k = (torch.randn(2, 30, inner, dtype=torch.float64, requires_grad=True) for _ in range(2))
    v = torch.randn(2, 30, outer, dtype=torch.float64, requires_grad=True)
    plain = torch.softmax(0.7 * q @ k.transpose(1, 2), dim=-1) @ v
    found = attend(q, k, v, scale=0.7)
    torch.testing.assert_close(found, plain)
    slope = torch.randn_like(plain)
    for one, other in zip(
        torch.autograd.grad(found, (q, k, v), slope), torch.autograd.grad(plain, (q, k, v), slope), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_no_map_of_positions_by_positions_is_held_in_use_or_training(watch_sizes):
    module = PositionAttention(2, 64, bias=True)
    x = torch.randn(1, 64, 40, 40, requires_grad=True)
    with watch_sizes() as sizes:
        module(x).sum().backward()
    assert 64 * 1600 <= sizes.largest < 1600**2 / 4


@pytest.mark.parametrize("dims", [2, 3])
def test_attention_starts_as_the_identity_and_then_sees_far(dims):
    torch.manual_seed(0)
    x = 0.3 * torch.randn(1, 8, *(4,) * dims)
    for module in (PositionAttention(dims, 8, bias=True), ChannelAttention("danet"), ChannelAttention("released")):
        torch.testing.assert_close(module(x), x)
        torch.nn.init.ones_(module.gamma)
        moved = x.clone()
        moved[(0, 0) + (0,) * dims] += 1
        corner = (0, slice(None)) + (-1,) * dims
        assert not torch.equal(module(moved)[corner], module(x)[corner])


def test_weights_of_the_repaired_channel_map_sum_to_one():
    x = 0.2 * torch.randn(1, 6, 40)
    torch.testing.assert_close(channel_map(x, "danet").sum(-1), torch.ones(1, 6))
    assert not torch.allclose(channel_map(x, "released").sum(-1), torch.ones(1, 6))


def test_the_channel_map_holds_sums_that_half_precision_does_not():
    x = torch.full((1, 2, 5000), 8.0)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.isfinite(channel_map(x.half(), "danet")).all()


def test_a_published_guide_leaves_holes_and_a_repaired_one_none():
    torch.manual_seed(0)
    bottleneck = torch.randn(1, 8, 2, 2, 2)
    holes = []
    for form in ("released", "interpolated"):
        guide = Guide(DAUNetConfig(**SMALL, guiding_form=form), outputs=4, strides=(4, 4, 4))
        found = guide(bottleneck)
        assert found.shape == (1, 4, 8, 8, 8)
        holes.append(bool((found[0, :, 3] == guide.up.bias[:, None, None]).all()))
    assert holes == [True, False]
