import numpy as np
import pytest
import torch
from scipy import ndimage

from voxelight.medseg.predict import soften
from voxelight.medseg.reliability import (
    bin_confidence,
    find_band,
    fit_temperature,
    measure_reliability,
    pool,
)
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap


def draw(temperature, voxels=60_000, labels=4, seed=0):
    """Labels drawn from probabilities, and a network whose logits are `temperature` times too large."""
    chance = np.random.default_rng(seed)
    logits = torch.from_numpy(chance.normal(size=(labels, voxels)) * 1.5)
    truth = logits.softmax(0).numpy().cumsum(0)
    reference = (chance.random(voxels) > truth).sum(0)
    return (logits * temperature).softmax(0).numpy(), reference


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_was_put_in_comes_out(temperature):
    found = fit_temperature([draw(temperature, seed=1), draw(temperature, seed=2)])
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.nll_after <= found.nll_before + 1e-9
    assert found.ece_after < 0.01
    assert found.voxels == 120_000
    if temperature != 1:
        assert found.ece_before > 5 * found.ece_after


def test_it_is_the_minimum_that_torch_finds():
    probabilities, reference = draw(1.7, voxels=5000)
    logs, labels = torch.from_numpy(np.log(probabilities)).T, torch.from_numpy(reference)
    heat = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([heat], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(logs / heat.exp(), labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    found = fit_temperature([(probabilities, reference)])
    assert found.temperature == pytest.approx(float(heat.detach().exp()), rel=1e-3)
    assert found.nll_after == pytest.approx(float(closure().detach()), rel=1e-6)


def test_softening_is_dividing_the_logits():
    logits = torch.randn(5, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(soften(logits.softmax(0), 2.5), (logits / 2.5).softmax(0))
    assert soften(logits, 1.0) is logits


def test_ece_is_the_sum_over_bins_by_hand():
    confidence = np.array([0.55, 0.58, 0.95, 0.99, 1.0, 0.2])
    right = np.array([True, False, True, True, False, False])
    # bins of 1/15: (.533, .6], (.933, 1], (.2 - 1/15, .2]
    expected = (abs(1 - 1.13) + abs(2 - 2.94) + 0.2) / 6
    found = bin_confidence(confidence, right)
    assert found.ece == pytest.approx(expected)
    assert found.voxels.sum() == 6
    both = bin_confidence(confidence[:3], right[:3]) + bin_confidence(confidence[3:], right[3:])
    np.testing.assert_allclose(both.certainty, found.certainty)
    assert pool([found, None]) is None
    assert pool([found, found]).ece == pytest.approx(found.ece)


def test_the_band_is_what_lies_near_a_border_in_mm():
    labels = np.zeros((30, 20, 20), np.uint8)
    labels[15:] = 1
    reference = LabelMap(labels, Geometry(labels.shape, np.diag([2.0, 1, 1, 1])), {1: "half"})
    band = find_band(reference, band_mm=4.0)
    np.testing.assert_array_equal(np.flatnonzero(band[:, 3, 3]), [12, 13, 14, 15, 16, 17])
    assert not find_band(LabelMap(np.zeros_like(labels), reference.geometry, {1: "half"})).any()
    confidence = np.where(ndimage.binary_dilation(band), 0.6, 1.0)
    everywhere, border = measure_reliability(confidence, np.ones(labels.shape, bool), reference, 4.0)
    assert border.ece == pytest.approx(0.4)
    assert everywhere.ece < border.ece
    assert border.voxels.sum() == band.sum()


def test_without_a_voxel_there_is_no_temperature():
    with pytest.raises(BadInput, match="no voxel"):
        fit_temperature([])
