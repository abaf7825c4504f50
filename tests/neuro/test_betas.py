"""Normalisations and averages of betas."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Betas
from voxelight.neuro.betas import NORMALISATIONS, average_repeats, normalise, select_rows

TRAIN = np.arange(5, 27)


def test_training_rows_are_scaled_as_scikit_learn_scales_them(make_subject):
    betas, _ = make_subject()
    expected = StandardScaler().fit(betas.values[TRAIN]).transform(betas.values)
    np.testing.assert_allclose(normalise(betas, TRAIN, "training-rows").values, expected, atol=1e-4)


def test_sessions_are_scaled_by_their_own_training_rows(make_subject):
    betas, _ = make_subject()
    drifted = replace(
        betas, values=betas.values + 50 * (betas.labels["session"] == "ses-1")[:, None].astype(np.float32)
    )
    found = normalise(drifted, TRAIN, "training-rows-per-session").values
    for session in np.unique(betas.labels["session"]):
        rows = np.flatnonzero(betas.labels["session"] == session)
        scaler = StandardScaler().fit(drifted.values[np.intersect1d(rows, TRAIN)])
        np.testing.assert_allclose(found[rows], scaler.transform(drifted.values[rows]), atol=1e-3)


def test_own_session_uses_held_out_rows_and_says_so(make_subject):
    betas, _ = make_subject()
    found = normalise(betas, TRAIN, "own-session").values
    for session in np.unique(betas.labels["session"]):
        rows = found[betas.labels["session"] == session]
        np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(rows.std(0), 1, atol=1e-5)
    assert NORMALISATIONS["own-session"].transductive
    assert "transductive" in NORMALISATIONS["own-session"].summary


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_only_transductive_normalisations_notice_held_out_rows(make_subject, name):
    betas, _ = make_subject()
    held_out = np.setdiff1d(np.arange(len(betas.values)), TRAIN)
    values = betas.values.copy()
    values[held_out] *= 100
    before, after = (normalise(part, TRAIN, name).values[TRAIN] for part in (betas, replace(betas, values=values)))
    assert np.array_equal(before, after) != NORMALISATIONS[name].transductive


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6])
def test_constant_voxels_become_zero(make_subject, name, constant):
    betas, _ = make_subject()
    values = betas.values.copy()
    values[:, 3] = constant
    found = normalise(replace(betas, values=values), TRAIN, name).values
    assert (found[:, 3] == 0).all()
    assert np.isfinite(found).all()


def test_session_without_training_rows_is_refused_with_a_way_out(make_subject):
    betas, _ = make_subject()
    with pytest.raises(BadInput, match=r"0 rows of session ses-0.*two or more.*training-rows"):
        normalise(betas, np.arange(9, 27), "training-rows-per-session")


@pytest.mark.parametrize("name", ["training-rows-per-session", "own-session"])
def test_unknown_sessions_are_refused(make_subject, name):
    betas, _ = make_subject()
    with pytest.raises(BadInput, match="a session for every trial"):
        normalise(replace(betas, labels={}), TRAIN, name)


def test_unknown_normalisation_names_the_known_ones(make_subject):
    betas, _ = make_subject()
    with pytest.raises(NotFound, match="training-rows-per-session"):
        normalise(betas, TRAIN, "test-rows")


def test_repeats_are_averaged_in_order_of_first_occurrence():
    betas = Betas(
        np.array([[1], [10], [3], [20], [5]], dtype=np.float32),
        np.array(["b", "a", "b", "a", "c"]),
        "01",
        "V1",
        {"group": np.array(["x", "y", "x", "y", "x"]), "run": np.array(["1", "1", "2", "2", "2"])},
    )
    averaged = average_repeats(betas)
    assert averaged.stimulus_ids.tolist() == ["b", "a", "c"]
    assert averaged.values.ravel().tolist() == [2, 15, 5]
    assert averaged.labels["group"].tolist() == ["x", "y", "x"]
    assert "run" not in averaged.labels


def test_repeats_of_different_runs_stay_apart_where_asked(make_subject):
    betas, _ = make_subject()
    averaged = average_repeats(betas, within=betas.labels["run"])
    pairs = list(zip(betas.stimulus_ids.tolist(), betas.labels["run"].tolist(), strict=True))
    assert list(zip(averaged.stimulus_ids.tolist(), averaged.labels["run"].tolist(), strict=True)) == list(
        dict.fromkeys(pairs)
    )
    for row, pair in enumerate(dict.fromkeys(pairs)):
        own = [number for number, other in enumerate(pairs) if other == pair]
        np.testing.assert_allclose(averaged.values[row], betas.values[own].mean(0), rtol=1e-5)


def test_selected_rows_keep_their_labels(make_subject):
    betas, _ = make_subject()
    part = select_rows(betas, np.array([4, 2]))
    assert part.stimulus_ids.tolist() == betas.stimulus_ids[[4, 2]].tolist()
    assert part.labels["run"].tolist() == ["run-0", "run-2"]
