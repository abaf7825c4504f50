"""The bigG image encoder against open_clip's own, and its input against scipy."""

import numpy as np
import open_clip
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter1d
from torchvision.transforms import Normalize

from voxelight.models.clip.image_encoder import ClipImageEncoder, ImageEncoderConfig, prepare_pixels, resize_bicubic
from voxelight.models.errors import BadInput

SMALL = ImageEncoderConfig(width=32, layers=3, head_width=8, mlp_ratio=2.5, patch=4, side=16, output_dim=24)
NORMALIZE = Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


def build_theirs(config: ImageEncoderConfig) -> torch.nn.Module:
    """Open_clip's model of the same sizes; its text side is as small as it can be."""
    vision = {
        "image_size": config.side,
        "patch_size": config.patch,
        "width": config.width,
        "layers": config.layers,
        "head_width": config.head_width,
        "mlp_ratio": config.mlp_ratio,
        "output_tokens": True,
    }
    return open_clip.CLIP(config.output_dim, vision, {"width": 8, "heads": 1, "layers": 1}).eval()


def fill(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter random values, norms and biases too, so that none of them goes unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


@pytest.fixture(scope="module")
def ours() -> ClipImageEncoder:
    encoder = SMALL.build().eval()
    fill(encoder)
    return encoder


@pytest.fixture(scope="module")
def theirs(ours: ClipImageEncoder) -> torch.nn.Module:
    model = build_theirs(SMALL)
    model.visual.load_state_dict(ours.visual.state_dict())
    return model.visual


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_tokens_and_pooled_embedding_are_open_clips_own_on_an_image_mapped_twice(ours, theirs, images):
    pooled, tokens = theirs(NORMALIZE((images + 1) / 2))
    torch.testing.assert_close(ours(images), tokens)
    torch.testing.assert_close(ours.embed(images)[1], pooled)
    assert ours(images).shape == (3, SMALL.tokens, SMALL.width)


@torch.no_grad()
def test_tokens_are_neither_the_layer_before_nor_without_the_norm_nor_of_an_image_mapped_once(ours, theirs, images):
    pixels = NORMALIZE((images + 1) / 2)
    layers = theirs.forward_intermediates(pixels, output_fmt="NLC")["image_intermediates"]
    normed = theirs.forward_intermediates(pixels, output_fmt="NLC", normalize_intermediates=True)["image_intermediates"]
    tokens = ours(images)
    torch.testing.assert_close(tokens, normed[-1])
    for other in (layers[-1], layers[-2], normed[-2], theirs(NORMALIZE(images))[1]):
        assert (tokens - other).abs().max() > 0.05


@torch.no_grad()
def test_without_the_washed_out_range_the_encoder_is_open_clips_plain_one(ours, theirs, images):
    plain = SMALL.model_copy(update={"washed_out": False}).build().eval()
    plain.load_state_dict(ours.state_dict())
    torch.testing.assert_close(plain(images), theirs(NORMALIZE(images))[1])
    torch.testing.assert_close(plain((images + 1) / 2), ours(images))


def test_the_released_encoder_has_the_published_parameters_under_open_clips_names():
    with torch.device("meta"):
        visual = ImageEncoderConfig().build().state_dict()
        model = open_clip.CLIP(**open_clip.get_model_config("ViT-bigG-14")).state_dict()
    assert sum(tensor.numel() for tensor in visual.values()) == 1_844_907_264
    expected = {key: tensor.shape for key, tensor in model.items() if key.startswith("visual.")}
    assert {key: tensor.shape for key, tensor in visual.items()} == expected
    assert ImageEncoderConfig().tokens == 256


def test_an_encoder_built_without_memory_takes_its_weights_and_gives_the_same_tokens(ours, images):
    with torch.device("meta"):
        empty = SMALL.build().eval()
    empty.load_state_dict(ours.state_dict(), assign=True)
    with torch.no_grad():
        torch.testing.assert_close(empty(images), ours(images), rtol=0, atol=0)


@torch.no_grad()
def test_half_precision_stays_close_and_prepares_the_image_in_full(ours, images):
    half = SMALL.build().eval()
    half.load_state_dict(ours.state_dict())
    tokens = half.to(torch.bfloat16)(images)
    assert tokens.dtype == torch.bfloat16
    error = (tokens.float() - ours(images)).norm() / ours(images).norm()
    assert error < 0.02
    assert prepare_pixels(images.to(torch.bfloat16), 16, washed_out=True).dtype == torch.float32


def shrink_by_hand(image: np.ndarray, side: int) -> np.ndarray:
    """Blur by scipy, then Keys' cubic convolution (a = -0.75) at points from corner to corner."""
    for axis, length in enumerate(image.shape):
        if length > side:
            sigma = max((length / side - 1) / 2, 1e-3)
            image = gaussian_filter1d(image, sigma, axis=axis, mode="mirror", radius=int(max(4 * sigma, 3)) // 2)
    for axis in (0, 1):
        length = image.shape[axis]
        weights = np.zeros((side, length))
        for row, at in enumerate(np.linspace(0, length - 1, side)):
            for near in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
                weights[row, np.clip(near, 0, length - 1)] += keys_cubic(abs(at - near), -0.75)
        image = np.moveaxis(np.tensordot(weights, image, axes=(1, axis)), 0, axis)
    return image


def keys_cubic(t: float, a: float) -> float:
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


@pytest.mark.parametrize("shape", [(64, 64), (40, 25), (16, 90), (17, 17), (9, 12)], ids=str)
def test_resizing_blurs_only_what_shrinks_and_keeps_the_corners(shape):
    image = np.random.default_rng(0).random(shape)
    resized = resize_bicubic(torch.from_numpy(image)[None, None], 16)
    np.testing.assert_allclose(resized[0, 0].numpy(), shrink_by_hand(image, 16), atol=1e-12)


def test_an_image_of_the_right_size_is_not_resampled(images):
    assert torch.equal(resize_bicubic(images, 16), images)


@pytest.mark.parametrize(
    "wrong",
    [torch.rand(3, 16, 16), torch.rand(1, 16, 16, 3), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)],
    ids=["no batch axis", "colours last", "8-bit"],
)
def test_images_in_another_layout_are_refused(ours, wrong):
    with pytest.raises(BadInput, match="expected"):
        ours(wrong)


@pytest.mark.parametrize("wrong", [{"side": 225}, {"head_width": 100}, {"depth": 3}], ids=str)
def test_sizes_that_do_not_divide_and_unknown_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        ImageEncoderConfig(**wrong)
