import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from voxelight.medseg.uncertainty import area_under_risk, choose_uncertainty, entropy, risk_coverage
from voxelight.models.errors import BadInput


def test_entropy_is_that_of_scipy():
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 5)).transpose(2, 0, 1)
    np.testing.assert_allclose(entropy(p), scipy_entropy(p, axis=0), atol=1e-9)
    assert entropy(np.array([1.0, 0.0])) == pytest.approx(0, abs=1e-9)


def test_setting_the_uncertain_aside_leaves_fewer_errors():
    coverage, risk = risk_coverage(np.array([0.1, 0.2, 0.3, 0.9]), np.array([False, False, True, True]))
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 0, 1 / 3, 1 / 2])


def test_the_order_of_equals_does_not_matter_and_a_constant_has_the_overall_risk():
    wrong = np.array([True, False, False, False])
    assert area_under_risk(np.zeros(4), wrong) == 0.25
    assert area_under_risk(np.zeros(4), wrong[::-1]) == 0.25


def test_a_perfect_uncertainty_has_the_smallest_area():
    rng = np.random.default_rng(0)
    wrong = rng.random(2000) < 0.1
    areas = [area_under_risk(u, wrong) for u in (wrong.astype(float), wrong + rng.normal(0, 1, 2000), rng.random(2000))]
    assert areas == sorted(areas)
    assert areas[2] == pytest.approx(0.1, abs=0.03)


def test_the_spread_of_votes_is_shown_only_where_it_beats_every_other():
    persons = {f"case {n}": f"person {n}" for n in range(20)}
    rng = np.random.default_rng(0)
    usual = {case: float(0.05 + 0.01 * rng.random()) for case in persons}
    better = {case: area - 0.01 for case, area in usual.items()}
    unclear = {case: area + float(0.01 * rng.normal()) for case, area in usual.items()}
    assert choose_uncertainty({"entropy": usual, "spread": better}, persons, seed=0) == "spread"
    assert choose_uncertainty({"entropy": usual, "spread": unclear}, persons, seed=0) == "entropy"
    assert choose_uncertainty({"entropy": usual, "spread": better, "folds": better}, persons, seed=0) == "entropy"
    with pytest.raises(BadInput, match="entropy among them"):
        choose_uncertainty({"spread": better}, persons, seed=0)
