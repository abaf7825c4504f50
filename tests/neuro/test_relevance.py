"""Where a decoder looks: patterns of a known linear model come back, gradients are those of finite differences."""

import numpy as np
import pytest
import torch

from voxelight.models.decoders.ridge import RidgeConfig
from voxelight.models.errors import BadInput
from voxelight.neuro.relevance import (
    agree,
    draw_null,
    find_gradients,
    find_involvement,
    find_patterns,
    place,
)


def forward_model(trials=4000, voxels=30, targets=3, seed=0):
    """Voxels that carry what was seen through known patterns, half of them not at all, with noise they share."""
    rng = np.random.default_rng(seed)
    pattern = rng.normal(size=(voxels, targets))
    pattern[voxels // 2 :] = 0
    shown = rng.normal(size=(trials, targets)) @ np.array([[1, 0.4, 0], [0, 1, 0.3], [0, 0, 1]])[:targets, :targets]
    shared = rng.normal(size=(trials, 1)) @ rng.normal(size=(1, voxels))
    return shown @ pattern.T + shared + 0.2 * rng.normal(size=(trials, voxels)), shown, pattern


def test_the_pattern_of_a_known_model_comes_back():
    betas, shown, pattern = forward_model()
    weights = RidgeConfig(alphas=(1e-3,)).fit(betas, shown).coefficients
    found = find_patterns(betas, betas @ weights)
    # What is decoded is what was shown, shrunk a little by the noise, so patterns come back up to a few per cent.
    np.testing.assert_allclose(found, pattern, atol=0.1)
    assert np.abs(found[15:]).max() < 0.1 * np.abs(found[:15]).max()


def test_a_voxel_that_only_cancels_noise_has_a_weight_and_no_pattern():
    """Haufe et al. (2014), section 2.1: one voxel holds signal and disturbance, the other the disturbance alone."""
    rng = np.random.default_rng(5)
    signal, disturbance = rng.normal(size=(2, 20_000))
    betas = np.column_stack([signal + disturbance, disturbance])
    weights = RidgeConfig(alphas=(1e-6,)).fit(betas, signal[:, None]).coefficients
    np.testing.assert_allclose(weights[:, 0], [1, -1], atol=1e-3)
    for joint in (True, False):
        np.testing.assert_allclose(find_patterns(betas, betas @ weights, joint)[:, 0], [1, 0], atol=0.03)
    np.testing.assert_allclose(find_involvement(betas, betas @ weights), [np.sqrt(0.5), 0], atol=0.02)


def test_the_pattern_is_the_equation_written_out():
    betas, shown, _ = forward_model(trials=200)
    weights = RidgeConfig(alphas=(10.0,)).fit(betas, shown).coefficients
    decoded = betas @ weights
    expected = np.cov(betas.T) @ weights @ np.linalg.inv(np.cov(decoded.T))
    np.testing.assert_allclose(find_patterns(betas, decoded), expected, rtol=1e-8)
    alone = find_patterns(betas, decoded, joint=False)
    for target in range(3):
        slope = [np.polyfit(decoded[:, target], betas[:, voxel], 1)[0] for voxel in range(30)]
        np.testing.assert_allclose(alone[:, target], slope, rtol=1e-8)


def test_involvement_is_the_weighted_correlation_and_finds_the_voxels_that_carry_something():
    betas, shown, _ = forward_model(trials=300)
    weights = RidgeConfig(alphas=(1.0,)).fit(betas, shown).coefficients
    decoded = betas @ weights
    correlations = np.corrcoef(betas.T, decoded.T)[:30, 30:]
    power = decoded.var(0)
    found = find_involvement(betas, betas @ weights)
    np.testing.assert_allclose(found, np.sqrt((correlations**2 * power).sum(1) / power.sum()), rtol=1e-8)
    assert 0 <= found.min() <= found.max() <= 1
    still = np.column_stack([betas, np.ones(300)])
    assert find_involvement(still, decoded)[-1] == 0
    assert not find_involvement(betas, np.zeros((300, 3))).any()


def test_the_largest_voxel_of_noise_stays_within_the_null_and_one_that_carries_something_leaves_it():
    rng = np.random.default_rng(6)
    betas, decoded = rng.normal(size=(60, 50)), rng.normal(size=(60, 4))
    null = draw_null(betas, decoded, 199, seed=0)
    assert find_involvement(betas, decoded).max() < np.quantile(null, 0.99)
    betas[:, 7] += decoded.sum(1)
    found = find_involvement(betas, decoded)
    assert found[7] > null.max()
    assert found.argmax() == 7


def test_a_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(12, 20), torch.nn.GELU(), torch.nn.Linear(20, 6)).double()
    network.requires_grad_(False)

    def decode(rows):
        return network(rows.double()).reshape(-1, 2, 3)

    betas = np.random.default_rng(1).normal(size=(20, 12)).astype(np.float32)
    found, scores = find_gradients(decode, betas)
    outputs = decode(torch.from_numpy(betas)).flatten(1).numpy()
    direction = outputs - outputs.mean(0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    np.testing.assert_allclose(scores, (outputs * direction).sum(1), rtol=1e-5)
    step = 1e-3
    for voxel in range(12):
        moved = [betas.copy(), betas.copy()]
        moved[0][:, voxel] += step
        moved[1][:, voxel] -= step
        up, down = (decode(torch.from_numpy(one)).flatten(1).numpy() for one in moved)
        width = moved[0][:, voxel].astype(float) - moved[1][:, voxel]
        slope = ((up - down) * direction).sum(1) / width
        np.testing.assert_allclose(found[:, voxel], betas[:, voxel] * slope, atol=2e-4)


def test_the_gradients_of_a_linear_network_add_up_to_its_score():
    weights = torch.randn(9, 4, generator=torch.Generator().manual_seed(2))
    found, scores = find_gradients(lambda rows: rows @ weights, np.random.default_rng(3).normal(size=(5, 9)))
    np.testing.assert_allclose(found.sum(1), scores, rtol=1e-4)


def test_values_go_back_where_the_mask_has_them():
    inside = np.zeros((3, 4, 5), bool)
    inside[1, 2, 3] = inside[0, 1, 1] = inside[2, 3, 4] = True
    volume = place(np.array([1.0, 2.0, 3.0]), inside)
    np.testing.assert_array_equal(volume[inside], [1, 2, 3])
    assert volume.sum() == 6
    with pytest.raises(BadInput, match="marks 3"):
        place(np.ones(4), inside)


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInput, match="from these betas"):
        find_patterns(np.ones((4, 3)), np.ones((5, 2)))
    with pytest.raises(BadInput, match="two or more"):
        find_gradients(lambda rows: rows, np.ones((1, 3)))


def test_maps_of_folds_agree_where_they_are_alike():
    rng = np.random.default_rng(4)
    one = rng.normal(size=100)
    assert agree([one, 2 * one + 1]) == pytest.approx(1)
    assert abs(agree([one, rng.normal(size=100)])) < 0.3
    assert agree([one]) is None
    assert agree([one, np.zeros(100)]) is None
