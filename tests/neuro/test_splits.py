"""Splits keep their unit whole, and refuse what does not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import LeaveOneGroupOut

from voxelight.models.errors import BadInput
from voxelight.neuro.splits import UNITS, Fold, Leak, Split, check_no_leak, find_unit_ids, k_fold, leave_one_out

STIMULI = np.array(["a", "b", "c", "a", "b", "c"])
RUNS = np.array(["1", "1", "1", "2", "2", "2"])
unit_columns = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40).filter(lambda ids: len(set(ids)) > 1)


def make_fold(train, test, key="one", unit="stimulus"):
    return Fold(key, unit, np.array(train, dtype=np.intp), np.array(test, dtype=np.intp), np.array(["a"]))


@given(unit_columns)
def test_leave_one_out_agrees_with_scikit_learn(ids):
    column = np.array(ids)
    split = leave_one_out("group", column, column)
    expected = {
        column[test][0]: (train.tolist(), test.tolist())
        for train, test in LeaveOneGroupOut().split(column, groups=column)
    }
    assert {fold.key: (fold.train.tolist(), fold.test.tolist()) for fold in split.folds} == expected


@given(unit_columns, st.integers(0, 100), st.data())
def test_k_fold_holds_out_every_unit_once_and_whole(ids, seed, data):
    column = np.array(ids)
    n_units = len(set(ids))
    n_folds = data.draw(st.integers(2, n_units))
    split = k_fold("group", column, column, n_folds, seed)
    held_out = [set(column[fold.test].tolist()) for fold in split.folds]
    assert sorted(np.concatenate([fold.test for fold in split.folds]).tolist()) == list(range(len(ids)))
    assert sum(map(len, held_out)) == n_units
    assert max(map(len, held_out)) - min(map(len, held_out)) <= 1
    again = k_fold("group", column, column, n_folds, seed)
    assert [fold.test.tolist() for fold in again.folds] == [fold.test.tolist() for fold in split.folds]


def test_seeds_deal_differently():
    column = np.array([f"s{number}" for number in range(40)])
    first, second = (k_fold("stimulus", column, column, 4, seed) for seed in (0, 1))
    assert first.folds[0].test.tolist() != second.folds[0].test.tolist()


@pytest.mark.parametrize("unit", UNITS)
def test_overlap_in_the_declared_unit_is_refused_by_name(unit):
    with pytest.raises(Leak, match=rf"{unit} b on both sides of fold one.*every {unit} on one side.*Split by {unit}"):
        Split(unit, STIMULI, STIMULI, (make_fold([0, 1, 3], [2, 4]),))


def test_long_overlaps_are_shortened():
    column = np.array([f"s{number}" for number in range(9)] * 2)
    with pytest.raises(Leak, match="s0, s1, s2, s3, s4 and 4 more"):
        Split("stimulus", column, column, (make_fold(range(9), range(9, 18)),))


@pytest.mark.parametrize(
    ("unit", "folds"),
    [
        ("trial", [make_fold([0, 3], [1])]),
        ("stimulus", []),
        ("stimulus", [make_fold([], [1])]),
        ("stimulus", [make_fold([1], [])]),
        ("stimulus", [make_fold([0], [6])]),
        ("stimulus", [make_fold([0], [-1])]),
        ("stimulus", [make_fold([0], [1]), make_fold([1], [0])]),
    ],
    ids=["unknown unit", "no fold", "no training", "nothing held out", "row beyond", "row below", "key twice"],
)
def test_unusable_splits_are_refused(unit, folds):
    with pytest.raises(BadInput):
        Split(unit, STIMULI, STIMULI, tuple(folds))


def test_one_unit_cannot_be_left_out():
    with pytest.raises(BadInput, match="at least two of the unit run"):
        leave_one_out("run", np.array(["1", "1"]), np.array(["a", "b"]))


@pytest.mark.parametrize("n_folds", [1, 4])
def test_more_folds_than_units_are_refused(n_folds):
    with pytest.raises(BadInput, match="2 to 3 folds"):
        k_fold("stimulus", STIMULI, STIMULI, n_folds, 0)


def test_stimuli_seen_before_are_counted():
    assert leave_one_out("run", RUNS, STIMULI).n_stimuli_seen_before == 6
    assert leave_one_out("stimulus", STIMULI, STIMULI).n_stimuli_seen_before == 0


def test_units_come_from_the_betas(make_subject):
    betas, _ = make_subject()
    assert find_unit_ids(betas, "stimulus").tolist() == betas.stimulus_ids.tolist()
    assert find_unit_ids(betas, "run").tolist() == betas.labels["run"].tolist()
    assert set(find_unit_ids(betas, "subject").tolist()) == {"01"}
    with pytest.raises(BadInput, match=r"without the unit 'category'.*group, run, session.*Add the column `category`"):
        find_unit_ids(betas, "category")


def test_a_fit_that_looks_at_held_out_rows_is_found(make_subject):
    betas, _ = make_subject()
    fold = leave_one_out("stimulus", betas.stimulus_ids, betas.stimulus_ids).folds[0]
    check_no_leak(lambda given: str(given.values[fold.train].sum()), betas, fold)
    with pytest.raises(Leak, match="with noise in the held-out rows of fold"):
        check_no_leak(lambda given: str(given.values.sum()), betas, fold)


def test_the_leak_check_leaves_the_betas_alone(make_subject):
    betas, _ = make_subject()
    before = replace(betas, values=betas.values.copy())
    fold = leave_one_out("stimulus", betas.stimulus_ids, betas.stimulus_ids).folds[0]
    check_no_leak(lambda given: "same", betas, fold)
    np.testing.assert_array_equal(betas.values, before.values)
