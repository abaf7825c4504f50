"""Multi-scale self-guided attention: backbones, starts, slices; its numbers are compared in tests/parity."""

from urllib.error import URLError

import pytest
import torch
import torchvision
from pydantic import ValidationError

from voxelight.medseg.losses import LOSSES
from voxelight.medseg.objectives import build_objective
from voxelight.models.errors import Unavailable
from voxelight.models.segmentation.backbones import Backbone
from voxelight.models.segmentation.msga import Head, MSGAConfig
from voxelight.models.segmentation.slices import stack_slices, through_slices

SMALL = {"backbone": "resnet18", "width": 8}


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_features_are_those_of_torchvision(name):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    ours = Backbone(name, in_channels=3).eval()
    ours.take(theirs.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = ours(x)
        pooled = features[-1].mean(dim=(2, 3))
        torch.testing.assert_close(theirs.fc(pooled), theirs(x))
    assert [64 // found.shape[2] for found in features] == [4, 8, 16, 32]
    assert tuple(found.shape[1] for found in features) == ours.widths


def test_one_channel_is_answered_as_three_of_the_same():
    torch.manual_seed(0)
    weights = torchvision.models.resnet18(weights=None).state_dict()
    colour, grey = Backbone("resnet18", 3).eval(), Backbone("resnet18", 1).eval()
    colour.take(weights)
    grey.take(weights)
    x = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(grey(x)[0], colour(x.expand(-1, 3, -1, -1))[0])


def test_training_starts_from_imagenet_where_it_is_asked_to(tmp_path, monkeypatch):
    """From the file in torchvision's cache, which is how it comes to a machine without a network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.manual_seed(1)
    weights = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(weights, cache / torchvision.models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2])
    network = MSGAConfig(**SMALL, pretrained=True).build()
    before = network.backbone.layer1[0].conv1.weight.clone()
    assert not torch.equal(before, weights["layer1.0.conv1.weight"]), "to use weights in hand, no file is needed"
    build_objective(network, LOSSES["ce"])
    torch.testing.assert_close(network.backbone.layer1[0].conv1.weight.detach(), weights["layer1.0.conv1.weight"])


def test_without_a_network_it_says_where_to_put_the_file(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(Unavailable, match=r"no route to host.*pretrained = false") as refused:
        MSGAConfig(**SMALL, pretrained=True).build().warm_start()
    assert str(tmp_path / "hub" / "checkpoints") in str(refused.value)


def test_the_head_is_as_large_as_the_published_one_without_what_nothing_reads():
    head = Head((256, 512, 1024, 2048), width=64, classes=5)
    assert sum(value.numel() for value in head.parameters()) == pytest.approx(17.78e6 - 0.96e6, abs=1e4)


def test_slices_stand_between_their_neighbours():
    volume = torch.arange(2 * 2 * 3 * 4 * 5.0).reshape(2, 2, 3, 4, 5)
    stacked = stack_slices(volume, context=3).unflatten(0, (2, 5))
    assert stacked.shape == (2, 5, 6, 3, 4)
    for middle in range(5):
        around = [max(0, middle - 1), middle, min(4, middle + 1)]
        torch.testing.assert_close(stacked[1, middle], torch.cat([volume[1, ..., at] for at in around]))


def test_a_volume_is_the_sum_of_its_slices():
    torch.manual_seed(0)
    network = MSGAConfig(**SMALL, in_channels=2, classes=3, context=3).build().eval()
    volume = torch.randn(1, 2, 20, 24, 4)
    with torch.inference_mode():
        found = network(volume)
        one_by_one = [network(x[None])[0] for x in stack_slices(volume, 3)]
        torch.testing.assert_close(found[0], torch.stack(one_by_one, dim=-1))
        torch.testing.assert_close(through_slices(network, volume, 3, at_once=1), found)


def test_the_published_start_spreads_the_normalisations():
    torch.manual_seed(0)
    network = MSGAConfig(**SMALL, initialisation="xavier").build()
    spread = torch.cat([m.weight.detach() for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    assert spread.mean() == pytest.approx(1, abs=2e-3)
    assert spread.std() == pytest.approx(0.02, abs=2e-3)


@pytest.mark.parametrize("wrong", [{"context": 2}, {"backbone": "vgg16"}, {"width": 12}])
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(ValidationError):
        MSGAConfig(**SMALL | wrong)
