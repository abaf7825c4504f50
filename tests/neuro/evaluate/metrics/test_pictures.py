"""PixCorr and SSIM against formulas written with scipy, on real photographs."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.stats import pearsonr
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize as torchvision_resize

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.metrics.pictures import (
    correlate_pairs,
    resize,
    score_pixels,
    score_structure,
    take_common_size,
)


def resize_by_scipy(picture, side):
    """Bilinear between pixel centres, edges repeated."""
    rows, columns = ((np.arange(side) + 0.5) * size / side - 0.5 for size in picture.shape[:2])
    grid = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([map_coordinates(picture[..., c], grid, order=1, mode="nearest") for c in range(3)], axis=-1)


def published_size(picture):
    return resize_by_scipy(resize_by_scipy(picture.astype(np.float64), 256), 425)


def structure_by_scipy(first, second):
    """Wang et al. 2004, eq. 13, with a Gaussian of sigma 1.5 cut at radius 5, borders left out."""

    def blur(image):
        return gaussian_filter(image, 1.5, truncate=3.5, mode="reflect")

    mean_1, mean_2 = blur(first), blur(second)
    var_1, var_2 = blur(first**2) - mean_1**2, blur(second**2) - mean_2**2
    shared = blur(first * second) - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mean_1 * mean_2 + c1) * (2 * shared + c2) / ((mean_1**2 + mean_2**2 + c1) * (var_1 + var_2 + c2))
    return index[5:-5, 5:-5].mean()


@pytest.fixture(scope="module")
def degraded(photographs):
    noise = np.random.default_rng(0).normal(0, 0.15, photographs.shape)
    blurred = gaussian_filter(photographs, (0, 2, 2, 0))
    return np.clip(blurred + noise, 0, 1).astype(np.float32)


def test_pixel_correlation_is_that_of_scipy(photographs, degraded):
    found = score_pixels(degraded, photographs)
    for number in (0, 5, 11):
        sides = [published_size(part[number]).ravel() for part in (degraded, photographs)]
        assert found.scores[number] == pytest.approx(pearsonr(*sides).statistic, abs=1e-6)
    assert found.value == pytest.approx(found.scores.mean())


def test_structural_similarity_is_that_of_scipy(photographs, degraded):
    found = score_structure(degraded[:3], photographs[:3])
    for number in range(3):
        grey = [published_size(part[number]) @ [0.2125, 0.7154, 0.0721] for part in (degraded, photographs)]
        assert found.scores[number] == pytest.approx(structure_by_scipy(*grey), abs=1e-5)


def test_a_picture_is_most_like_itself_and_large_ones_may_be_compared_with_small_ones(photographs):
    assert score_pixels(photographs[:3], photographs[:3]).value == pytest.approx(1)
    assert score_structure(photographs[:3], photographs[:3]).value == pytest.approx(1)
    assert score_pixels(photographs[:3, ::2, ::2], photographs[:3]).value > 0.9


def test_the_common_size_is_made_without_antialiasing():
    large = np.random.default_rng(0).uniform(size=(2, 700, 500, 3)).astype(np.float32)
    channels_first = torch.from_numpy(large).permute(0, 3, 1, 2)
    options = {"interpolation": InterpolationMode.BILINEAR}
    plain = torchvision_resize(channels_first, [256, 256], antialias=False, **options)
    smooth = torchvision_resize(channels_first, [256, 256], antialias=True, **options)
    assert torch.equal(take_common_size(large), plain)
    assert not torch.allclose(take_common_size(large), smooth, atol=0.05)
    small = resize(plain, 224)
    assert torch.equal(small, torchvision_resize(plain, [224, 224], antialias=False, **options))


def test_pairs_are_correlated_as_by_scipy_and_a_constant_one_not_at_all():
    first, second = np.random.default_rng(0).normal(size=(2, 5, 40))
    expected = [pearsonr(*pair).statistic for pair in zip(first, second, strict=True)]
    assert np.allclose(correlate_pairs(first, second), expected)
    assert correlate_pairs(np.full((1, 40), 0.3), second[:1]) == 0


def test_pictures_of_another_kind_are_refused(photographs):
    eight_bit = (photographs * 255).astype(np.uint8)
    for wrong in (eight_bit, photographs * 2, photographs[..., :1], photographs[0], photographs - 0.5):
        with pytest.raises(BadInput):
            score_pixels(wrong, photographs)
    with pytest.raises(BadInput, match="12 pictures"):
        score_structure(photographs[:4], photographs)
    broken = photographs.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(BadInput):
        score_pixels(broken, photographs)
