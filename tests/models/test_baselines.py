"""MONAI's networks under our contract: on a grid they take themselves they are what MONAI has."""

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR
from pydantic import ValidationError

from voxelight.models.segmentation.attention_unet import AttentionUnetConfig
from voxelight.models.segmentation.baselines import DynUNetConfig, SegResNetConfig, SwinUNETRConfig

OURS = {
    "dynunet": (
        DynUNetConfig(classes=3, filters=(4, 6, 8, 8), deep_supervision=False),
        lambda: DynUNet(3, 1, 3, [3] * 4, [1, 2, 2, 2], [2, 2, 2], (4, 6, 8, 8)),
    ),
    "segresnet": (
        SegResNetConfig(classes=3, filters=8, blocks_down=(1, 1), blocks_up=(1,)),
        lambda: SegResNet(3, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,)),
    ),
    "swin_unetr": (
        SwinUNETRConfig(classes=3, filters=12, spatial_dims=2, window=4),
        lambda: SwinUNETR(1, 3, window_size=4, feature_size=12, spatial_dims=2),
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_a_baseline_is_that_of_monai(name):
    config, build = OURS[name]
    ours, theirs = config.build().eval(), build().eval()
    theirs.load_state_dict(ours.net.state_dict())
    x = torch.randn(1, 1, *(64,) * 2) if config.spatial_dims == 2 else torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("config", [AttentionUnetConfig(filters=(4, 6), spatial_dims=2), OURS["swin_unetr"][0]])
def test_a_network_of_slices_goes_through_a_volume(config):
    network, volume = config.build().eval(), torch.randn(2, 1, 12, 10, 3)
    with torch.inference_mode():
        expected = torch.stack([network(volume[..., k]) for k in range(3)], dim=-1)
        torch.testing.assert_close(network(volume), expected)


def test_levels_of_a_dynunet_follow_its_strides():
    network = DynUNetConfig(filters=(4, 6, 8, 8, 8), strides=(1, (1, 2, 2), 2, (1, 2, 2), 2)).build().eval()
    with torch.inference_mode():
        levels = network.forward_levels(torch.randn(1, 1, 7, 21, 18))
    assert [tuple(level.shape[2:]) for level in levels] == [(7, 21, 18), (7, 11, 9), (4, 6, 5), (4, 3, 3)]


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (DynUNetConfig, {"filters": (4, 6, 8), "strides": (1, 2)}),
        (SegResNetConfig, {"filters": 12}),
        (SegResNetConfig, {"blocks_up": (1,)}),
        (SwinUNETRConfig, {"filters": 16}),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config, wrong):
    with pytest.raises(ValidationError):
        config(**wrong)
