"""Parts of the encoding model, each against somebody else's."""

import numpy as np
import pytest
from nilearn.glm.first_level import spm_hrf
from scipy.signal import convolve2d
from skimage.filters import gabor_kernel
from skimage.transform import downscale_local_mean

from voxelight.neuro.simulation.early import EARLY_REGIONS, EXTENT, draw_early_voxels, make_fields, respond_early
from voxelight.neuro.simulation.gabor import GRID, N_COLOURS, N_GABORS, SIDE, gabor_energy, make_bank, see
from voxelight.neuro.simulation.noise import (
    NoiseOptions,
    add_neighbours,
    double_gamma,
    draw_drift,
    find_overlaps,
    neighbours_variance,
)
from voxelight.neuro.simulation.pictures import resample_pictures
from voxelight.neuro.simulation.streams import find_stream

BANK = make_bank()


@pytest.fixture(scope="module")
def voxels():
    return draw_early_voxels(dict.fromkeys(EARLY_REGIONS, 300), BANK, np.random.default_rng(0))


def test_energy_is_that_of_the_gabors_of_scikit_image():
    random = np.random.default_rng(0)
    pictures = random.normal(size=(2, 32, 32))
    bank = make_bank(side=32, grid=32)
    found = gabor_energy(pictures, bank)
    for number in (0, 4, 9, 13, 17):
        frequency, angle = bank.frequencies[number] / 32, bank.orientations[number]
        kernel = gabor_kernel(frequency, angle, bandwidth=1, n_stds=6)
        for picture, energy in zip(pictures, found, strict=True):
            expected = np.abs(convolve2d(picture, kernel, mode="same"))
            np.testing.assert_allclose(energy[number], expected, rtol=2e-4, atol=2e-5)


def test_a_grating_drives_the_filter_of_its_frequency_and_orientation():
    y, x = np.mgrid[:SIDE, :SIDE]
    for frequency, angle in zip(BANK.frequencies[6:], BANK.orientations[6:], strict=True):
        wave = np.cos(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) / SIDE)
        energy = gabor_energy(wave[None], BANK)[0, :, 8:24, 8:24].mean((1, 2))
        best = energy.argmax()
        assert (BANK.frequencies[best], BANK.orientations[best]) == (frequency, angle)


def test_a_grey_picture_is_silent_and_no_channel_is_negative():
    channels = see(np.random.default_rng(0).uniform(size=(3, 40, 50, 3)).astype(np.float32), BANK)
    assert channels.shape == (3, N_GABORS + N_COLOURS, GRID, GRID)
    assert channels.min() >= 0
    assert np.abs(see(np.full((1, SIDE, SIDE, 1), 0.5, np.float32), BANK)).max() < 1e-6


def test_colours_above_and_below_grey_have_channels_of_their_own():
    red = np.zeros((1, SIDE, SIDE, 3), np.float32)
    red[..., 0] = 1
    light, reddish, bluish, dark, greenish, yellowish = see(red, BANK)[0, N_GABORS:].mean((1, 2))
    np.testing.assert_allclose([light, dark], [0, 1 / 6], atol=1e-6)
    np.testing.assert_allclose([reddish, greenish, bluish, yellowish], [0.5, 0, 0, 0.25], atol=1e-6)


def test_resampling_averages_over_cells():
    pictures = np.random.default_rng(0).uniform(size=(2, 96, 128, 3)).astype(np.float32)
    expected = [downscale_local_mean(picture, (3, 4, 1)) for picture in pictures]
    np.testing.assert_allclose(resample_pictures(pictures, 32), expected, atol=1e-6)
    uneven = resample_pictures(pictures, 37)
    np.testing.assert_allclose(uneven.mean((1, 2)), pictures.mean((1, 2)), atol=1e-5)


def test_receptive_fields_are_gaussians_on_the_picture():
    fields = make_fields(np.array([0.0, EXTENT]), np.array([0.0, 0.0]), np.array([0.8, 0.8]))
    assert fields.sum(0) == pytest.approx([1, 0.5], abs=1e-3)
    places = ((np.arange(GRID) + 0.5) / GRID * 2 - 1) * EXTENT
    middle = fields[:, 0].reshape(GRID, GRID)
    assert np.sqrt((middle.sum(0) * places**2).sum()) == pytest.approx(0.8, rel=0.01)


def test_fields_grow_with_eccentricity_and_from_region_to_region(voxels):
    radius = np.hypot(voxels.x, voxels.y)
    sizes = voxels.size.reshape(4, 300)
    assert (np.diff(np.median(sizes, axis=1)) > 0).all()
    for size, far in zip(sizes, radius.reshape(4, 300), strict=True):
        assert np.corrcoef(size, far)[0, 1] > 0.4
    assert (radius < 1).mean() > 4 * (1 / radius.max()) ** 2  # the centre of gaze has more than its share


def test_an_early_voxel_sees_its_own_place(voxels):
    before = np.random.default_rng(1).uniform(size=(1, SIDE, SIDE, 3)).astype(np.float32)
    after = before.copy()
    after[:, :16, 48:] = 1 - after[:, :16, 48:] ** 2  # the upper right corner
    changed = np.abs(np.diff(respond_early(see(np.concatenate([before, after]), BANK), voxels), axis=0))[0]
    small = voxels.size < 0.8
    inside = small & (voxels.x > 2.4) & (voxels.y < -2.4)
    opposite = small & (voxels.x < -2) & (voxels.y > 2)
    assert min(inside.sum(), opposite.sum()) >= 5
    assert changed[inside].min() > 100 * changed[opposite].max()


def test_early_responses_are_compressive(voxels):
    wave = np.cos(2 * np.pi * 12 * np.indices((SIDE, SIDE))[1] / SIDE)
    pictures = np.stack([0.5 + 0.1 * wave, 0.5 + 0.4 * wave])[..., None].astype(np.float32)
    low, high = respond_early(see(pictures, BANK), voxels)
    driven = low ** (1 / voxels.exponents) > 0.01
    assert driven.sum() > 50
    grown = np.log(high / low)[driven] / np.log(4)  # four times the contrast
    np.testing.assert_allclose(grown, voxels.exponents[driven], rtol=0.1)


def test_overlap_is_that_of_responses_four_seconds_apart():
    step = 0.1
    response = np.convolve(spm_hrf(step, oversampling=1, time_length=32), np.ones(30))
    expected = [response[40 * k :] @ response[: -40 * k] / (response @ response) for k in (1, 2, 3)]
    np.testing.assert_allclose(find_overlaps(), expected, atol=0.01)
    assert double_gamma(np.array([-1.0, 0.0])).tolist() == [0, 0]


def test_neighbours_stay_in_their_run():
    signals = np.zeros((6, 1), np.float32)
    signals[2] = 1
    first, second, _ = find_overlaps()
    mixed = add_neighbours(signals, np.array([1, 1, 1, 2, 2, 2]), 0.5)[:, 0]
    np.testing.assert_allclose(mixed, [second / 2, first / 2, 1, 0, 0, 0], atol=1e-6)
    long = np.random.default_rng(0).normal(size=(20_000, 1)).astype(np.float32)
    added = add_neighbours(long, np.ones(len(long)), 0.2) - long
    assert added.var() == pytest.approx(neighbours_variance(0.2), rel=0.05)


def test_drift_is_slow_and_of_variance_one():
    drift = draw_drift(750, 400, np.random.default_rng(0))
    assert drift.var(0).mean() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(drift, axis=0)).max() < 0.1


def test_noise_must_leave_something_to_each_voxel():
    with pytest.raises(ValueError, match="leave some noise"):
        NoiseOptions(correlated=0.6, drift=0.4)


def test_streams_of_other_names_share_nothing():
    names = [(0, "a"), (0, "a", 1), (0, "a", 11), (0, "b"), (1, "a")]
    draws = {tuple(find_stream(*name).integers(0, 2**63, 4).tolist()) for name in names}
    assert len(draws) == len(names)
    assert find_stream(0, "a", 1).normal() == find_stream(0, "a", 1).normal()
