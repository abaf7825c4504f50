"""Filling in between drawn slices, and how far a corrected map is from its base."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from voxelight.medseg.colours import COLOURS, find_colour
from voxelight.medseg.correct import describe_changes, interpolate_slices
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap

NAMES = {1: "lesion", 2: "vessel"}


def ball(radius: float, shape=(40, 44, 48)) -> np.ndarray:
    at = np.indices(shape).T - (np.array(shape) - 1) / 2
    return (np.linalg.norm(at, axis=-1) <= radius).T


def label_map(array, spacing=(1.0, 1.0, 1.0)) -> LabelMap:
    return LabelMap(array.astype(np.uint8), Geometry(array.shape, np.diag([*spacing, 1.0])), NAMES)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ball_comes_back_from_every_fourth_of_its_slices(axis):
    whole = ball(15)
    drawn = np.moveaxis(whole.copy(), axis, 0)
    there = np.flatnonzero(drawn.any(axis=(1, 2)))
    kept = there[::4]
    for at in there:
        if at not in kept:
            drawn[at] = False
    filled = np.moveaxis(interpolate_slices(label_map(np.moveaxis(drawn, 0, axis)), 1, axis).array == 1, axis, 0)
    inside = slice(kept[0], kept[-1] + 1)
    truth = np.moveaxis(whole, axis, 0)[inside]
    assert f1_score(truth.ravel(), filled[inside].ravel()) > 0.97
    assert not filled[: kept[0]].any()
    assert not filled[kept[-1] + 1 :].any()
    np.testing.assert_array_equal(filled[kept], np.moveaxis(whole, axis, 0)[kept])


def test_half_way_between_two_discs_lies_the_disc_of_the_mean_radius():
    array = np.zeros((61, 61, 9))
    plane = np.hypot(*(np.indices((61, 61)) - 30))
    array[..., 0], array[..., 8] = plane <= 10, plane <= 20
    filled = interpolate_slices(label_map(array), 1, 2).array[..., 4]
    assert abs(np.sqrt(filled.sum() / np.pi) - 15) < 0.5


def test_distance_is_counted_in_millimetres():
    """With rows five times as far apart, a shape narrows along the columns alone."""
    array = np.zeros((41, 41, 3))
    array[10:31, 15:26, 0] = 1
    array[10:31, 19:22, 2] = 1
    near = interpolate_slices(label_map(array, (5.0, 1.0, 1.0)), 1, 2).array[..., 1]
    assert set(near.any(axis=1).nonzero()[0]) == set(range(10, 31))
    assert 5 <= near.any(axis=0).sum() <= 9


def test_other_labels_and_the_base_stay_as_they_are():
    array = np.zeros((20, 20, 7), np.uint8)
    array[4:16, 4:16, 0] = array[4:16, 4:16, 6] = 1
    array[8:10, 8:10, 3] = 2
    base = label_map(array)
    before = base.array.copy()
    filled = interpolate_slices(base, 1, 2)
    assert (filled.array[8:10, 8:10, 3] == 2).all()
    assert (filled.array[4:8, 4:16, 3] == 1).all()
    np.testing.assert_array_equal(base.array, before)


def test_between_two_named_slices_what_was_there_is_drawn_anew():
    array = np.zeros((20, 20, 9), np.uint8)
    array[5:15, 5:15, :] = 1
    array[0:3, 0:3, 4] = 1  # what the person wants to be rid of
    filled = interpolate_slices(label_map(array), 1, 2, between=(6, 2)).array
    assert not filled[0:3, 0:3].any()
    assert (filled[5:15, 5:15] == 1).all()


@pytest.mark.parametrize(
    ("number", "between"),
    [(3, None), (1, None), (1, (0, 5)), (1, (2, 3)), (2, None)],
    ids=["unknown label", "no gap", "slice without it", "neighbours", "label that is nowhere"],
)
def test_nothing_to_fill_in_is_refused(number, between):
    array = np.zeros((8, 8, 8), np.uint8)
    array[2:6, 2:6, 2:5] = 1
    with pytest.raises(BadInput):
        interpolate_slices(label_map(array), number, 2, between)


def test_changes_count_voxels_and_overlap_as_scikit_learn_does():
    rng = np.random.default_rng(5)
    before, after = (label_map(rng.integers(0, 3, (12, 13, 14))) for _ in range(2))
    for number, name in NAMES.items():
        change = describe_changes(before, after)[name]
        old, new = before.array.ravel() == number, after.array.ravel() == number
        assert change.added == int((new & ~old).sum())
        assert change.removed == int((old & ~new).sum())
        assert change.dice == pytest.approx(f1_score(old, new))
    assert all(change.dice == 1 and not change.added for change in describe_changes(before, before).values())


def test_maps_of_two_grids_are_not_compared():
    with pytest.raises(BadInput):
        describe_changes(label_map(np.zeros((4, 4, 4))), label_map(np.zeros((4, 4, 5))))


def test_labels_next_to_each_other_have_colours_of_their_own():
    assert len({find_colour(number) for number in range(1, 25)}) == 24
    assert [find_colour(number) for number in range(1, 9)] == list(COLOURS)
