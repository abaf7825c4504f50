"""Betas standardised as they are read are those that are standardised in memory."""

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.betas import normalise
from voxelight.neuro.training.standardise import standardise_voxels

TRIALS, VOXELS = 900, 11
SESSIONS = np.repeat(["b", "a", "c"], TRIALS // 3)


@pytest.fixture
def table(tmp_path):
    """A mapped table whose sessions differ in mean and spread; one voxel is constant, one nearly without spread."""
    rng = np.random.default_rng(0)
    values = 100 + rng.normal(size=(TRIALS, VOXELS)) * np.repeat([[1], [3], [9]], TRIALS // 3, axis=0)
    values[:, 4] = 0.1
    values[:, 5] = 1e4 + 1e-2 * rng.normal(size=TRIALS)
    np.save(tmp_path / "betas.npy", values.astype(np.float32))
    return np.load(tmp_path / "betas.npy", mmap_mode="r")


@pytest.mark.parametrize("by_session", [True, False])
def test_it_is_what_normalising_in_memory_gives(table, by_session):
    train = np.flatnonzero(np.random.default_rng(1).random(TRIALS) < 0.8)
    betas = Betas(np.array(table), np.arange(TRIALS).astype(str), "01", "V1", {"session": SESSIONS})
    expected = normalise(betas, train, "training-rows-per-session" if by_session else "training-rows").values
    found = standardise_voxels(table, train, SESSIONS.tolist() if by_session else None)
    assert found.shape == (TRIALS, VOXELS)
    np.testing.assert_allclose(found[np.arange(TRIALS)], expected, rtol=1e-5, atol=1e-5)
    rows = np.array([850, 3])
    assert found[rows].dtype == np.float32
    np.testing.assert_allclose(found[rows], expected[rows], rtol=1e-5, atol=1e-5)
    assert (found[np.arange(TRIALS)][:, 4] == 0).all()


def test_held_out_trials_are_not_looked_at(table):
    train = np.arange(0, TRIALS, 2)
    changed = np.array(table)
    changed[1::2] = np.nan
    one, other = (standardise_voxels(values, train, SESSIONS.tolist()) for values in (table, changed))
    np.testing.assert_array_equal(one[train], other[train])


def test_a_session_with_one_training_trial_is_refused(table):
    with pytest.raises(BadInput, match="1 training trials of session c"):
        standardise_voxels(table, np.r_[0:20, 300:320, 899], SESSIONS.tolist())


def test_a_training_reads_it_as_any_table(small, table):
    from dataclasses import replace

    subject = small.make_subject("s", voxels=VOXELS, trials=TRIALS)
    found = replace(subject, voxels=standardise_voxels(table, subject.rows)).read(np.array([5, 2]))
    assert found.shape == (2, VOXELS)
    assert np.abs(found).max() < 10
