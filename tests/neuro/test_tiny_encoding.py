"""The network that late voxels of the tiny profile's subject answer to."""

import numpy as np
import pytest
import torch

from voxelight.models.errors import NotFound
from voxelight.models.feature_weights import read_feature_weights
from voxelight.models.values import Stimuli
from voxelight.neuro.evaluate.metrics.networks import DEFAULT_NETWORK
from voxelight.neuro.simulation import TEXTURE, refuse_circular
from voxelight.neuro.tiny.encoding import NETWORK, build_encoder
from voxelight.neuro.tiny.recipe import find_tiny_recipe
from voxelight.neuro.tiny.stages import Bench
from voxelight.neuro.tiny.teacher import TEACHER

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def state():
    return read_feature_weights(NETWORK).tensors()


def test_features_are_those_of_the_network_as_it_was_published(state):
    from efficientnet_lite_pytorch import EfficientNet

    images = np.random.default_rng(0).random((3, 64, 64, 3), np.float32)
    found = build_encoder(state)(Stimuli(images, np.array(["a", "b", "c"])))
    network = EfficientNet.from_name(NETWORK, image_size=128)
    network.load_state_dict(state)
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    x = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = network.eval().extract_features((255 * x - 127) / 128).mean((2, 3))
    assert found.shape == (3, 1280)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_it_is_neither_teacher_nor_judge():
    recipe = find_tiny_recipe()
    assert recipe.subject.encoder == NETWORK
    refuse_circular(NETWORK, TEACHER, [DEFAULT_NETWORK])


def test_a_bench_without_its_weights_says_so_and_texture_needs_none():
    recipe = find_tiny_recipe()
    with pytest.raises(NotFound, match=NETWORK):
        _ = Bench(None, None, recipe, "cpu", None).late
    plain = recipe.model_copy(update={"subject": recipe.subject.model_copy(update={"encoder": TEXTURE.name})})
    assert Bench(None, None, plain, "cpu", None).late == (TEXTURE, "")
