"""The simulated subject: honest, repeatable, decodable."""

import socket

import numpy as np
import pytest

from voxelight.neuro.decode import decode
from voxelight.neuro.draw import draw_pairs
from voxelight.neuro.folds import plan_folds
from voxelight.neuro.recipes import find_recipe
from voxelight.neuro.simulate import PHOTOGRAPHS, SimulationOptions, read_photograph, simulate_subject

SMALL = SimulationOptions(side=16, crops=12, n_voxels=500)


@pytest.fixture(scope="module")
def subject():
    return simulate_subject(0, SMALL)


@pytest.fixture(scope="module")
def decoding(subject):
    return decode(*subject, find_recipe("simulated-ridge").model_copy(update={"permutations": 99}))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_need_no_network(name, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the photograph was fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    photograph = read_photograph(name)
    assert photograph.dtype == np.uint8
    assert photograph.shape[2] == 3
    assert min(photograph.shape[:2]) >= 300


def test_it_says_that_it_is_simulated(subject, decoding):
    betas, _ = subject
    assert betas.simulated
    assert betas.subject == "simulated"
    assert decoding.report.simulated
    assert any("Simulated data" in note for note in decoding.report.notes)
    assert all("simulated" in line for line in decoding.report.lines()[:6])


def test_every_session_shows_every_crop_once(subject):
    betas, stimuli = subject
    assert len(stimuli.ids) == 12 * len(PHOTOGRAPHS)
    for session in np.unique(betas.labels["session"]):
        shown = betas.stimulus_ids[betas.labels["session"] == session]
        assert sorted(shown.tolist()) == sorted(stimuli.ids.tolist())
    for stimulus, group in zip(betas.stimulus_ids.tolist(), betas.labels["group"].tolist(), strict=True):
        assert stimulus.startswith(group)


def test_same_seed_same_bytes(subject):
    betas, stimuli = subject
    again, pictures = simulate_subject(0, SMALL)
    assert again.values.tobytes() == betas.values.tobytes()
    assert pictures.images.tobytes() == stimuli.images.tobytes()
    assert simulate_subject(1, SMALL)[0].values.tobytes() != betas.values.tobytes()


def test_no_noise_no_difference_between_repeats_but_gain_and_offset():
    betas, _ = simulate_subject(2, SimulationOptions(side=12, crops=4, n_voxels=20, noise=0))
    first, second = (
        betas.values[betas.labels["session"] == name][np.argsort(betas.stimulus_ids[betas.labels["session"] == name])]
        for name in ("ses-01", "ses-02")
    )
    for voxel in range(20):
        assert np.corrcoef(first[:, voxel], second[:, voxel])[0, 1] > 0.9999
    assert np.abs(first - second).max() > 0.05


def test_whole_photographs_are_held_out(subject):
    betas, _ = subject
    folds = plan_folds(betas, find_recipe("simulated-ridge"))
    assert sorted(fold.key for fold in folds) == sorted(PHOTOGRAPHS)
    for fold in folds:
        assert not any(name.startswith(fold.key) for name in betas.stimulus_ids[fold.train].tolist())


def test_photographs_never_seen_are_told_apart(decoding):
    metric = decoding.report.find("two_way")
    assert metric.value > 0.9
    assert metric.p == 0.01
    assert metric.low > metric.null_mean + 5 * metric.null_std


def test_sheet_says_simulated_only_where_it_is(subject, decoding):
    _, stimuli = subject
    simulated, measured = (draw_pairs(stimuli, decoding.folds, flag) for flag in (True, False))
    assert simulated.dtype == np.uint8
    assert simulated.shape == measured.shape
    changed = np.argwhere((simulated != measured).any(2))
    assert len(changed)
    assert changed[:, 0].max() < 0.1 * len(simulated)  # in the headline
