"""Population receptive fields: found again where they are known, against shipped fits of a real recording, in time."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from voxelight.models.errors import BadInput
from voxelight.neuro.glm.hrf import CANONICAL
from voxelight.neuro.receptive import Movie, ReceptiveFieldModel, choose_lead, predict_held_out, split_time

REPETITION_S = 1.317
COARSE = 5  # pixels of the recording that are put together: 0.6 to 1.1 degrees
GAP_S = 20.0


def make_movie(volumes=100):
    """A bar that crosses a screen of 16 x 10 degrees both ways."""
    x, y = (each.ravel() for each in np.meshgrid(np.linspace(-8, 8, 24), np.linspace(-5, 5, 16)))
    places = np.concatenate([np.linspace(-9, 9, volumes // 4), np.linspace(9, -9, volumes // 4)])
    across = np.abs(x[None] - places[:, None]) < 1
    down = np.abs(y[None] - 0.6 * places[:, None]) < 1
    return Movie(np.concatenate([across, down]).astype(float), x, y)


def test_fields_are_found_again():
    random = np.random.default_rng(0)
    movie = make_movie()
    model = ReceptiveFieldModel(movie, 1.5)
    x, y, size = random.uniform(-6, 6, 12), random.uniform(-3.5, 3.5, 12), random.uniform(0.7, 2, 12)
    clean = 0.3 * model.predict(x, y, size) + 5
    bold = clean + 0.2 * clean.std(0) * random.normal(size=clean.shape)
    fits = model.fit(bold)
    assert np.hypot(fits.x - x, fits.y - y).max() < 0.5
    np.testing.assert_allclose(fits.size, size, rtol=0.3)
    np.testing.assert_allclose(fits.amplitude, 0.3, rtol=0.35)
    assert fits.r2.min() > 0.9
    np.testing.assert_allclose(model.predict_fits(fits).mean(0), bold.mean(0))


def test_the_signal_is_the_movie_under_a_gaussian_convolved_with_the_response():
    movie = make_movie()
    model = ReceptiveFieldModel(movie, 1.5)
    seen = movie.frames @ np.exp(-((movie.x - 1) ** 2 + (movie.y + 2) ** 2) / (2 * 1.2**2))
    weights = CANONICAL.respond(np.arange(0, 32, 1.5), 0.0, 1.5)
    expected = np.convolve(seen, weights)[: len(seen)]
    np.testing.assert_allclose(model.predict(np.array([1.0]), np.array([-2.0]), np.array([1.2]))[:, 0], expected)


def test_blocks_of_time_have_a_gap_on_both_sides():
    folds = split_time(150, REPETITION_S, 5, GAP_S)
    assert np.array_equal(np.concatenate([held for _, held in folds]), np.arange(150))
    for fitted, held in folds:
        apart = np.abs(fitted[:, None] - held[None]).min() * REPETITION_S
        assert apart > GAP_S
    with pytest.raises(BadInput, match="gaps"):
        split_time(40, REPETITION_S, 2, GAP_S)


def test_what_does_not_fit_together_is_refused():
    movie = make_movie()
    with pytest.raises(BadInput, match="frame for every volume"):
        ReceptiveFieldModel(movie, 1.5).fit(np.ones((7, 2)))
    with pytest.raises(BadInput, match="position for every pixel"):
        Movie(movie.frames, movie.x[1:], movie.y)
    with pytest.raises(BadInput, match="shows nothing"):
        Movie(np.zeros_like(movie.frames), movie.x, movie.y)


@pytest.fixture(scope="module")
def recording(shared_data):
    """V1 of one run of 150 volumes, the movie that was seen, and the fits that are shipped with it."""
    folder = shared_data / "prf_szinte2024_v1"
    frames = np.load(folder / "dm_gazecenter.npz")["arr_0"]
    volumes, columns, rows = frames.shape
    cut = (columns // COARSE, COARSE, rows // COARSE, COARSE)
    places = pd.read_csv(folder / "grid_coordinates.tsv", sep="\t").to_numpy().reshape(*cut, 2).mean((1, 3))
    coarse = frames.reshape(volumes, *cut).mean((2, 4)).reshape(volumes, -1)
    bold = pd.read_csv(folder / "mask-v1_bold.tsv.gz", sep="\t").to_numpy()[:, 1:]
    shipped = pd.read_csv(folder / "gauss_parameters.tsv", sep="\t")
    chosen = np.random.default_rng(0).permutation(np.flatnonzero((shipped.r2 > 0.4) & (shipped.amplitude > 0)))[:50]
    movie = Movie(coarse, *places.reshape(-1, 2).T)
    return movie, bold[:, chosen], shipped.iloc[chosen]


@pytest.fixture(scope="module")
def lead(recording):
    movie, bold, _ = recording
    return choose_lead(movie, bold[:, ::2], REPETITION_S, np.arange(6) * REPETITION_S)


def test_shipped_fits_of_a_real_recording_are_recovered(recording, lead):
    movie, bold, shipped = recording
    fits = ReceptiveFieldModel(movie, REPETITION_S, lead_s=lead).fit(bold)
    apart = np.hypot(fits.x - shipped.x, fits.y - shipped.y)
    assert np.median(apart) < 0.4  # degrees
    assert (apart < 1).mean() > 0.75
    assert spearmanr(fits.x, shipped.x).statistic > 0.85
    assert spearmanr(fits.y, shipped.y).statistic > 0.85
    assert spearmanr(fits.size, shipped.sd).statistic > 0.4
    assert (fits.r2 > shipped.r2).mean() > 0.8


def test_held_out_blocks_of_time_are_predicted(recording, lead):
    movie, bold, _ = recording
    predicted = predict_held_out(ReceptiveFieldModel(movie, REPETITION_S, lead_s=lead), bold, REPETITION_S, 5, GAP_S)
    r = np.array([np.corrcoef(predicted[:, voxel], bold[:, voxel])[0, 1] for voxel in range(bold.shape[1])])
    others = np.roll(bold, 7, axis=1)
    null = np.array([np.corrcoef(predicted[:, voxel], others[:, voxel])[0, 1] for voxel in range(bold.shape[1])])
    assert np.median(r) > 0.55
    assert (r > 0).mean() > 0.95
    assert np.median(r) > np.median(null) + 0.3
