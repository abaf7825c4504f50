import numpy as np
import pytest
import torch

from voxelight.medseg.calibrate import calibrate, sample_case
from voxelight.medseg.cases import Case
from voxelight.medseg.predict import Segmenter
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume


class Certain(torch.nn.Module):
    """Says where the image is bright, with logits that are too large by a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return torch.cat([-x, x], dim=1) * self.factor


def make_case(seed, spacing=1.0):
    """An image whose logit of label 1 is twice its value, and a reference drawn with that probability."""
    chance = np.random.default_rng(seed)
    shape = (24, 20, 22)
    image = chance.normal(size=shape)
    image = (image - image.mean()) / image.std()
    labels = (chance.random(shape) < 1 / (1 + np.exp(-2 * image))).astype(np.uint8)
    grid = Geometry(shape, np.diag([spacing, spacing, spacing, 1.0]))
    return Case(
        f"case{seed}", Volume(image[np.newaxis].astype(np.float32), grid), LabelMap(labels, grid, {1: "bright"})
    )


def make_segmenter(factor, **changes):
    recipe = SegmentationRecipe(
        name="bright", title="", summary="", network="none", config={}, weights="none", labels={1: "bright"},
        spacing_mm=(1, 1, 1), patch=(16, 16, 16), mirror_average=False,
        normalisation={"percentiles": (0, 100)}, **changes,
    )  # fmt: skip
    return Segmenter(recipe, (Certain(factor),), "cpu")


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_what_makes_a_network_too_certain_is_found(factor):
    told = []
    cases = [make_case(seed) for seed in range(3)]
    found = calibrate(cases, make_segmenter(factor, temperature=7.0), progress=told.append)
    assert found.temperature == pytest.approx(factor, rel=0.05)
    assert found.nll_after <= found.nll_before
    assert told == [1, 2, 3]


def test_samples_are_what_the_network_says_at_the_place_of_the_reference():
    case, segmenter = make_case(0), make_segmenter(1.0)
    probabilities, reference = sample_case(case, segmenter, 500, seed=1)
    assert probabilities.shape == (2, 500)
    again, _ = sample_case(case, segmenter, 500, seed=1)
    np.testing.assert_array_equal(probabilities, again)
    everything = sample_case(case, segmenter, 10**6, seed=1)
    expected = 1 / (1 + np.exp(-2 * case.volume.array[0]))
    np.testing.assert_allclose(everything[0][1], expected.ravel(), atol=1e-4)  # noise: every voxel is near a border
    np.testing.assert_array_equal(everything[1], case.labels.array.ravel())
    assert set(reference) == {0, 1}


def test_regions_of_a_head_are_not_calibrated(few_cases, for_heads):
    with pytest.raises(BadInput, match="whole images"):
        calibrate(few_cases[:1], for_heads)
