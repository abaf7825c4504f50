import pytest
import torch
from torch import nn

from voxelight.models.segmentation.agunet import AGUNetConfig
from voxelight.models.segmentation.attention_unet import AttentionUnetConfig
from voxelight.models.segmentation.fuse import OneDNNDoubling, fuse
from voxelight.models.segmentation.joined import Doubling

EXAMPLE = torch.zeros(1, 1, 16, 16, 16)


def unsettled(network):
    """Give normalisations statistics, as training does: with fresh ones they would do nothing."""
    chance = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            for values, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.5, 2)):
                values.uniform_(low, high, generator=chance)
            nn.init.uniform_(module.weight, 0.5, 2, generator=chance)
            nn.init.uniform_(module.bias, -1, 1, generator=chance)
    return network.eval()


def norms(network):
    return sum(isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)) for module in network.modules())


@pytest.mark.parametrize(
    "config", [AGUNetConfig(filters=(4, 6, 8), classes=3), AttentionUnetConfig(filters=(4, 8, 16), classes=3)]
)
@torch.inference_mode()
def test_the_same_logits_without_a_normalisation(config):
    network = unsettled(config.build())
    before = norms(network)
    fused = fuse(network, EXAMPLE)
    x = torch.randn(2, 1, 19, 16, 22, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fused(x), network(x), rtol=1e-4, atol=1e-4)
    assert (norms(fused), norms(network)) == (0, before)
    assert fused.get_parameter(next(name for name, p in fused.named_parameters() if p.dim() == 5)).is_contiguous(
        memory_format=torch.channels_last_3d
    )


@pytest.mark.parametrize("gate", ["concat", "add"])
@torch.inference_mode()
def test_doublings_and_joined_parts_take_their_fast_form(gate):
    network = unsettled(AGUNetConfig(in_channels=2, filters=(4, 6, 8), gate=gate).build())
    fused = fuse(network, torch.zeros(1, 2, 16, 16, 16))
    x = torch.randn(1, 2, 11, 16, 22, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fused(x), network(x), rtol=1e-4, atol=1e-4)
    assert sum(isinstance(module, OneDNNDoubling) for module in fused.modules()) == 2
    assert not any(isinstance(module, Doubling) for module in fused.modules())


@torch.inference_mode()
def test_voxels_that_are_no_cubes_are_halved_where_they_are_told_to_be():
    network = unsettled(AGUNetConfig(filters=(4, 6, 8), pooling=((2, 2, 1), (2, 1, 2))).build())
    fused = fuse(network, EXAMPLE)
    x = torch.randn(1, 1, 11, 16, 9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fused(x), network(x), rtol=1e-4, atol=1e-4)
    assert norms(fused) == 0
    assert [tuple(level.shape[2:]) for level in network.forward_levels(x)] == [(11, 16, 9), (6, 8, 9)]


class Read(nn.Module):
    """Something but the normalisation reads the convolution, or a part is used twice."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.bn, self.more, self.how = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), how

    def forward(self, x):
        x = self.conv(x)
        if self.how == "skip":
            return self.bn(x) + self.more(x)
        if self.how == "sum":
            return self.bn(x) + x
        if self.how == "twice":
            return self.bn(self.more(self.bn(x)))
        return self.bn(torch.relu(x))


@pytest.mark.parametrize("how", ["skip", "sum", "twice", "activation"])
@torch.inference_mode()
def test_pairs_that_others_read_are_left_alone(how):
    network = unsettled(Read(how))
    fused = fuse(network, torch.zeros(1, 1, 8, 8))
    x = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fused(x), network(x))
    assert norms(fused) == 1


def test_the_network_itself_stays_as_it_was():
    network = unsettled(AGUNetConfig(filters=(4, 6)).build())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fuse(network, EXAMPLE)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


class Activated(nn.Module):
    """A ReLU behind a pair, in place or not, with or without somebody who reads what came before it."""

    def __init__(self, inplace, seen):
        super().__init__()
        self.conv, self.bn, self.act, self.seen = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace), seen

    def forward(self, x):
        x = self.bn(self.conv(x))
        before = x.mean() if self.seen else 0
        return self.act(x) + before


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("seen", [True, False])
@torch.inference_mode()
def test_an_activation_goes_with_the_convolution_only_where_nobody_sees_the_difference(inplace, seen):
    network = unsettled(Activated(inplace, seen))
    fused = fuse(network, torch.zeros(1, 1, 8, 8))
    x = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fused(x), network(x))
    assert isinstance(fused.act, nn.ReLU) == (seen or not inplace)
