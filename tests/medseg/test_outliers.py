import numpy as np
import pytest
from scipy import stats

from voxelight.medseg.outliers import FAR, robust_z


def test_it_is_the_distance_from_the_median_in_robust_deviations():
    values = np.random.default_rng(0).normal(5, 2, 101)
    expected = (values - np.median(values)) / stats.median_abs_deviation(values, scale="normal")
    assert robust_z(values) == pytest.approx(expected)


def test_one_that_stands_apart_is_far_and_moves_nobody_else():
    values = np.random.default_rng(1).normal(0, 1, 40)
    without = robust_z(values)
    found = robust_z([*values, 1000])
    assert found[-1] > 100 * FAR
    assert np.abs(found[:-1] - without).max() < 0.5


def test_most_values_equal_still_finds_the_one_that_is_not():
    found = robust_z([1] * 30 + [4])
    assert found[:-1] == pytest.approx(0)
    assert found[-1] > FAR


@pytest.mark.parametrize("values", [[], [1, 2, 3, 900], [7] * 20])
def test_few_or_equal_values_have_no_outlier(values):
    assert not robust_z(values).any()
