"""Every row of the table of segmentation networks, unasked; and what AGUNet adds."""

import itertools

import pytest
import torch
from pydantic import ValidationError

from voxelight.models.registry import SEGMENTERS, find_config
from voxelight.models.segmentation.agunet import AGUNetConfig, AttentionGate

SMALL = {"in_channels": 2, "classes": 3, "filters": (4, 6, 8)}
GRIDS = [(16, 16, 16), (9, 14, 11), (5, 4, 3)]


def build(name, **options):
    torch.manual_seed(0)
    return find_config(SEGMENTERS, name)(**SMALL | options).build().eval()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_network_keeps_the_grid(name, grid):
    with torch.inference_mode():
        logits = build(name)(torch.randn(2, 2, *grid))
    assert logits.shape == (2, 3, *grid)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_first_level_is_the_answer(name):
    network, x = build(name), torch.randn(1, 2, 12, 9, 7)
    with torch.inference_mode():
        torch.testing.assert_close(network.forward_levels(x)[0], network(x))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_network_learns(name):
    network = build(name).train()
    x, target = torch.randn(2, 2, 8, 8, 8), torch.randint(3, (2, 8, 8, 8))
    sum(level.square().mean() for level in network.forward_levels(x)).backward()
    silent = [key for key, value in network.named_parameters() if value.grad is None]
    assert not silent, "every parameter reaches the output"
    assert target.shape == x.shape[:1] + x.shape[2:]


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("wrong", [{"depth": 3}, {"classes": 1}, {"filters": (4,)}, {"in_channels": 0}])
def test_a_config_refuses_what_it_does_not_know(name, wrong):
    with pytest.raises(ValidationError):
        find_config(SEGMENTERS, name)(**SMALL | wrong)


@pytest.mark.parametrize("switches", list(itertools.product((False, True), repeat=3)))
def test_every_part_of_agunet_can_be_switched_off(switches):
    parts = dict(zip(("attention_gates", "multi_scale_input", "deep_supervision"), switches, strict=True))
    network = build("agunet", **parts)
    names = " ".join(dict(network.named_parameters()))
    assert (".ag." in names) is parts["attention_gates"]
    assert (".ms_conv." in names) is parts["multi_scale_input"]
    with torch.inference_mode():
        levels = network.forward_levels(torch.randn(1, 2, 13, 16, 9))
    expected = [(13, 16, 9), (7, 8, 5)] if parts["deep_supervision"] else [(13, 16, 9)]
    assert [tuple(level.shape[2:]) for level in levels] == expected


def test_dropout_makes_training_random_and_use_not():
    network, x = build("agunet", dropout=0.5), torch.randn(1, 2, 8, 8, 8)
    torch.testing.assert_close(network(x), network(x))
    network.train()
    assert not torch.equal(network(x), network(x))


def test_a_gate_only_weakens_its_skip():
    gate = AttentionGate(AGUNetConfig(), 6, 4, 3).eval()
    g, x = torch.randn(1, 6, 4, 4, 4), torch.randn(1, 4, 4, 4, 4)
    with torch.inference_mode():
        psi = gate.weigh(g, x)
        assert psi.shape == (1, 1, 4, 4, 4)
        assert psi.min() >= 0
        assert psi.max() <= 1
        torch.testing.assert_close(gate(g, x), x * psi)


def test_the_published_width_has_the_published_size():
    parameters = sum(value.numel() for value in AGUNetConfig().build().state_dict().values())
    counters = sum("num_batches" in name for name in AGUNetConfig(filters=(2, 2, 2, 2, 2)).build().state_dict())
    assert parameters - counters == 18_663_932
