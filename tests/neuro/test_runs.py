"""Betas of block designs from runs of volumes."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.io

from voxelight.models.errors import BadInput
from voxelight.neuro.decode import decode
from voxelight.neuro.recipes import RunOptions, find_recipe
from voxelight.neuro.runs import betas_from_runs, find_blocks
from voxelight.storage.formats.betas import read_betas_mat

SIDE = 4
REST = np.full(SIDE * SIDE, -1.0)


def make_labels(pictures, on=4, off=3):
    parts = [np.tile(REST, (3, 1))]
    for picture in pictures:
        parts += [np.tile(picture, (on, 1)), np.tile(REST, (off, 1))]
    return np.concatenate([*parts, np.tile(REST, (3, 1))])


def make_bold(labels, code, lag=2, drift=0.0, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    shown = np.where(labels < 0, 0, labels)
    response = np.vstack([np.zeros((lag, code.shape[1])), (shown @ code)[: len(labels) - lag]])
    slope = drift * np.arange(len(labels))[:, None]
    return 100 + response + slope + noise * random.normal(size=response.shape)


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 2, size=(12, SIDE * SIDE)).astype(float)


@pytest.fixture
def code():
    return np.random.default_rng(1).normal(size=(SIDE * SIDE, 30))


def test_blocks_are_stretches_of_one_picture(pictures):
    labels = make_labels(pictures[:3], on=4, off=3)
    assert find_blocks(labels) == [(3, 7), (10, 14), (17, 21)]
    assert find_blocks(np.concatenate([pictures[[0, 0, 1]], REST[None]])) == [(0, 2), (2, 3)]


def test_betas_follow_the_code_with_the_lag_and_without_the_drift(pictures, code):
    tables = [make_labels(pictures[:6]), make_labels(pictures[6:])]
    runs = [(make_bold(labels, code, drift=0.5), labels) for labels in tables]
    betas, stimuli = betas_from_runs(runs, RunOptions(lag_volumes=2), "01", "V1")
    assert betas.values.shape == (12, 30)
    assert betas.labels["run"].tolist() == ["run-01"] * 6 + ["run-02"] * 6
    seen = stimuli.select(betas.stimulus_ids).images.swapaxes(1, 2).reshape(12, -1)
    np.testing.assert_array_equal(seen, pictures)
    for rows in (slice(0, 6), slice(6, 12)):
        r = [np.corrcoef(betas.values[rows, voxel], (pictures[rows] @ code)[:, voxel])[0, 1] for voxel in range(30)]
        assert np.median(r) > 0.95


def test_wrong_lag_blurs_the_betas(pictures, code):
    labels = make_labels(pictures, on=3, off=0)
    bold = make_bold(labels, code, lag=2)
    expected = pictures @ code

    def fit(lag):
        betas, _ = betas_from_runs([(bold, labels)], RunOptions(lag_volumes=lag, detrend=False), "01", "V1")
        return np.mean([np.corrcoef(betas.values[:, voxel], expected[:, voxel])[0, 1] for voxel in range(30)])

    assert fit(2) > 0.999
    assert fit(2) > fit(1) > fit(0)


def test_repeated_pictures_share_an_id_and_it_is_that_of_the_mat_reader(pictures, code, tmp_path):
    labels = make_labels(pictures[[0, 1, 0]])
    betas, stimuli = betas_from_runs([(make_bold(labels, code), labels)], RunOptions(), "01", "V1")
    assert betas.stimulus_ids[0] == betas.stimulus_ids[2] != betas.stimulus_ids[1]
    assert len(stimuli.ids) == 2
    scipy.io.savemat(tmp_path / "same.mat", {"fmriTrn": np.ones((2, 3)), "stimTrn": pictures[:2]})
    from_mat, _ = read_betas_mat(tmp_path / "same.mat")
    assert from_mat.stimulus_ids.tolist() == betas.stimulus_ids[:2].tolist()


def test_block_beyond_the_last_volume_is_cut_or_left_out(pictures, code):
    labels = np.concatenate([make_labels(pictures[:1]), np.tile(pictures[1], (3, 1)), np.tile(pictures[2], (2, 1))])
    betas, stimuli = betas_from_runs([(make_bold(labels, code), labels)], RunOptions(lag_volumes=2), "01", "V1")
    assert betas.values.shape[0] == len(stimuli.ids) == 2


def test_constant_voxels_become_zero(pictures, code):
    labels = make_labels(pictures[:4])
    bold = make_bold(labels, code)
    bold[:, 5] = 812.3
    betas, _ = betas_from_runs([(bold, labels)], RunOptions(), "01", "V1")
    assert (betas.values[:, 5] == 0).all()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda bold, labels: (bold[:-1], labels),
        lambda bold, labels: (bold[:, 0], labels),
        lambda bold, labels: (bold, labels[:, :-1]),
        lambda bold, labels: (bold, labels * 2),
        lambda bold, labels: (bold, np.full_like(labels, -1)),
    ],
    ids=["volumes missing", "no voxel axis", "not square", "grey levels", "rest only"],
)
def test_unusable_runs_are_refused(pictures, code, spoil):
    labels = make_labels(pictures[:3])
    with pytest.raises(BadInput):
        betas_from_runs([spoil(make_bold(labels, code), labels)], RunOptions(), "01", "V1")


@pytest.mark.parametrize("unit", ["stimulus", "run"])
def test_the_recipe_reads_pictures_from_simulated_runs(code, unit):
    random = np.random.default_rng(3)
    pictures = random.integers(0, 2, size=(60, SIDE * SIDE)).astype(float)
    edges = range(0, 61, 15)
    runs = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        labels = make_labels(pictures[start:stop])
        runs.append((make_bold(labels, code, drift=0.05, noise=2.0, seed=number), labels))
    recipe = find_recipe("miyawaki2008-bold")
    betas, stimuli = betas_from_runs(runs, recipe.runs, "01", "V1")
    changes = {"permutations": 99, "unit": unit, "n_folds": 4, "inner_folds": 3}
    report = decode(betas, stimuli, recipe.model_copy(update=changes)).report
    assert report.find("two_way").value > 0.9
    assert report.find("two_way").p == 0.01
