"""Networks of the ResNet family, by torchvision's names, as what finds features at strides 4, 8, 16 and 32."""

from typing import Any, Literal

import torch
import torchvision.models as torchvision_models
from torch import Tensor, nn

BackboneName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]


class Backbone(nn.Module):
    """Image (b, c, i, j) -> features (b, c', i / s, j / s) for strides s of 4, 8, 16 and 32.

    Parameters
    ----------
    name : of torchvision
    in_channels : of the image
    width : planes of the level at stride 4, doubled at every further one; torchvision's are 64
    """

    def __init__(self, name: BackboneName, in_channels: int, width: int = 64) -> None:
        super().__init__()
        self.name, self.in_channels = name, in_channels
        made: Any = torchvision_models.get_model(name, weights=None)
        if width != 64:
            _narrow(made, width)
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1, self.maxpool = made.bn1, made.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = made.layer1, made.layer2, made.layer3, made.layer4
        self.widths = tuple(_width(layer[-1]) for layer in (made.layer1, made.layer2, made.layer3, made.layer4))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features, finest first."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(image))))
        found = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            found.append(x)
        return found

    def take(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of torchvision's network of this name, for images of three channels.

        The first convolution is averaged over its three channels for any other number, so that an image that repeats
        one channel is answered as before.
        """
        ours = {name: value for name, value in weights.items() if not name.startswith("fc.")}
        first = ours["conv1.weight"]
        if first.shape[1] != self.in_channels:
            ours["conv1.weight"] = first.sum(1, keepdim=True).expand(-1, self.in_channels, -1, -1) / self.in_channels
        self.load_state_dict(ours)


def _narrow(network: Any, width: int) -> None:
    """Make the levels anew with other planes, as torchvision makes them."""
    network.inplanes = 64
    for number, name in enumerate(("layer1", "layer2", "layer3", "layer4")):
        old = getattr(network, name)
        stride = 2 if number else 1
        setattr(network, name, network._make_layer(type(old[0]), width * 2**number, len(old), stride))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _width(block: Any) -> int:
    last = block.bn3 if hasattr(block, "bn3") else block.bn2
    return int(last.num_features)
