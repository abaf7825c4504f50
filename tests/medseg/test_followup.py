"""Growth of simulated lesions, whose true change is known."""

import math

import numpy as np
import pytest
from scipy import stats

from voxelight.medseg.followup import MinimalChange, Timepoint, find_growth, follow
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap


def simulate_lesion(radius_mm, spacing=1.0, shift=0.0):
    """A ball on a grid, at a place that no voxel is centred on."""
    side = int(2 * radius_mm / spacing) + 8
    middle = (side - 1) / 2 + shift
    apart = np.linalg.norm((np.indices((side,) * 3).reshape(3, -1).T - middle) * spacing, axis=1)
    labels = (apart < radius_mm).reshape((side,) * 3).astype(np.uint8)
    grid = Geometry((side,) * 3, np.diag([spacing, spacing, spacing, 1]))
    return LabelMap(labels, grid, {1: "lesion"}).volumes_ml()["lesion"]


def with_spread(session, volume, sd, day=None):
    z = stats.norm.ppf(0.975)
    return Timepoint(session, volume, volume - z * sd, volume + z * sd, day)


def test_a_simulated_lesion_that_doubles_every_hundred_days_is_found_to():
    days = (0, 50, 130, 300)
    points = [
        Timepoint(f"0{number}", simulate_lesion(8 * 2 ** (day / 100 / 3), shift=0.3), day=day)
        for number, day in enumerate(days, 1)
    ]
    found = follow(points, MinimalChange(percent=10))
    assert len(found) == len(points)
    for growth in found:
        assert growth.doubling_days == pytest.approx(100, rel=0.05)
        assert growth.beyond
        assert growth.source == "stated"
    whole = found[-1]
    assert (whole.start, whole.end) == ("01", "04")
    assert whole.percent_per_year == pytest.approx(100 * (2**3.6525 - 1), rel=0.05)
    assert whole.low_percent_per_year < whole.percent_per_year < whole.high_percent_per_year


def test_a_simulated_lesion_that_only_moved_has_not_grown():
    first, second = (Timepoint(name, simulate_lesion(8, shift=at)) for name, at in (("01", 0.0), ("02", 0.45)))
    assert first.volume_ml != second.volume_ml
    found = find_growth(first, second, MinimalChange(percent=5))
    assert not found.beyond
    assert found.low_ml < 0 < found.high_ml


@pytest.mark.parametrize("truth", [0.0, 1.5])
def test_the_interval_of_a_spread_holds_the_true_change_as_often_as_it_says(truth):
    rng = np.random.default_rng(5)
    held = beyond = 0
    for _ in range(2000):
        first, second = rng.normal(10, 0.3), rng.normal(10 + truth, 0.4)
        found = find_growth(with_spread("01", first, 0.3), with_spread("02", second, 0.4))
        held += found.low_ml <= truth <= found.high_ml
        beyond += found.beyond
    assert found.source == "spread"
    assert held / 2000 == pytest.approx(0.95, abs=0.015)
    expected = stats.norm.sf((stats.norm.ppf(0.975) * 0.5 - truth) / 0.5) + stats.norm.cdf(
        (-stats.norm.ppf(0.975) * 0.5 - truth) / 0.5
    )
    assert beyond / 2000 == pytest.approx(expected, abs=0.03)


def test_the_minimal_change_of_two_equal_errors_is_the_one_of_weir():
    found = find_growth(with_spread("01", 10, 0.3), with_spread("02", 11, 0.3))
    assert found.detectable_ml == pytest.approx(1.96 * math.sqrt(2) * 0.3, rel=1e-4)


def test_the_spread_of_networks_alone_does_not_make_a_change_count_where_scanning_again_would_give_it():
    first, second = with_spread("01", 10, 0.05), with_spread("02", 10.8, 0.05)
    assert find_growth(first, second).beyond
    found = find_growth(first, second, MinimalChange(percent=15))
    assert found.source == "spread"
    assert found.detectable_ml == pytest.approx(0.15 * 10.4)
    assert not found.beyond


def test_without_any_knowledge_of_error_nothing_is_flagged():
    found = find_growth(Timepoint("01", 1), Timepoint("02", 9))
    assert (found.source, found.beyond, found.low_ml, found.detectable_ml) == ("none", None, None, None)


def test_a_lesion_that_appears_has_no_percent_and_no_doubling():
    found = find_growth(Timepoint("01", 0, day=0), Timepoint("02", 2, day=90), MinimalChange(ml=0.5))
    assert found.beyond
    assert found.change_percent is None
    assert found.doubling_days is None
    assert found.percent_per_year is None


def test_one_visit_has_no_change():
    assert follow([Timepoint("01", 3)]) == []


def test_visits_that_do_not_follow_each_other_are_refused():
    with pytest.raises(BadInput, match="later than the one before"):
        follow([Timepoint("01", 3, day=10), Timepoint("02", 3, day=10)])
    with pytest.raises(BadInput, match="later than the one before"):
        follow([Timepoint("01", 3), Timepoint("01", 4)])


@pytest.mark.parametrize("wrong", [{}, {"ml": -1}, {"percent": math.nan}])
def test_a_minimal_change_that_is_none_is_refused(wrong):
    with pytest.raises(BadInput, match="scan and rescan"):
        MinimalChange(**wrong)
