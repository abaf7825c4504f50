"""Trials: every picture three times, spread over sessions, the same plan however much of it is simulated."""

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.neuro.simulation.design import DesignOptions, plan_trials

SMALL = DesignOptions(pictures=500, shared=100, trials=150, runs=4)


@pytest.fixture(scope="module")
def nsd():
    """The plan at NSD's own size."""
    return [plan_trials(73_000, subject, 0) for subject in (1, 2, 8)]


def test_nsd_size(nsd):
    for plan in nsd:
        assert len(plan.pictures) == 30_000
        assert np.bincount(plan.sessions)[1:].tolist() == [750] * 40
        assert set(np.bincount(plan.runs[plan.sessions == 7])[1:].tolist()) == {62, 63}
        assert plan.runs.max() == 12
        shown, counts = np.unique(plan.pictures, return_counts=True)
        assert len(shown) == 10_000
        assert set(counts.tolist()) == {3}
        assert np.bincount(plan.repeats)[1:].tolist() == [10_000] * 3


def test_shared_pictures_are_seen_by_all_and_the_others_by_one(nsd):
    seen = [set(plan.pictures.tolist()) for plan in nsd]
    shared = [set(plan.pictures[plan.shared].tolist()) for plan in nsd]
    assert len(shared[0]) == 1000
    assert shared[0] == shared[1] == shared[2] == seen[0] & seen[1] == seen[0] & seen[2]


def test_repeats_are_spread_over_sessions_near_and_far(nsd):
    plan = nsd[0]
    order = np.lexsort([plan.repeats, plan.pictures])
    sessions = plan.sessions[order].reshape(-1, 3)
    assert (np.diff(sessions, axis=1) >= 0).all()
    spans = sessions[:, 2] - sessions[:, 0]
    assert 0.01 < (spans == 0).mean() < 0.2  # all three in one session
    assert (np.array([len(set(row)) for row in sessions.tolist()]) == 3).mean() > 0.4
    assert (spans > 10).mean() > 0.4
    repeats = np.array([plan.repeats[plan.sessions == session].mean() for session in (1, 20, 40)])
    assert (np.diff(repeats) > 0).all()


def test_repeats_count_the_showings_of_each_picture_in_time():
    plan = plan_trials(600, 1, 3, SMALL)
    seen: dict[int, int] = {}
    for picture, repeat in zip(plan.pictures.tolist(), plan.repeats.tolist(), strict=True):
        seen[picture] = seen.get(picture, 0) + 1
        assert repeat == seen[picture]


def test_pictures_stand_in_the_order_of_their_first_showing():
    plan = plan_trials(600, 2, 0, SMALL)
    order = plan.first_shown()
    assert list(dict.fromkeys(plan.pictures.tolist())) == order.tolist()
    some = plan.select(np.arange(150))
    assert (order[plan.places(some)] == some.pictures).all()


def test_a_small_set_is_begun_again():
    plans = [plan_trials(500, subject, 0, DesignOptions(pictures=300, shared=50)) for subject in (1, 2, 3)]
    for plan in plans:
        assert len(set(plan.pictures.tolist())) == 300
        assert plan.pictures.max() < 500
    assert len({tuple(plan.pictures[:50]) for plan in plans}) == 3


@pytest.mark.parametrize("options", [{"pictures": 700}, {"pictures": 100, "shared": 101}])
def test_more_than_there_is_is_refused(options):
    with pytest.raises(BadInput, match="600 pictures"):
        plan_trials(600, 1, 0, DesignOptions(**options))
