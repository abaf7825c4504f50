import numpy as np
import pytest
import SimpleITK
import torch
from monai.metrics import DiceMetric
from scipy.stats import bootstrap

from voxelight.medseg.evaluate import dice, dice_by_case, mean_by_person, paired_difference
from voxelight.models.errors import BadInput


@pytest.fixture
def maps():
    random = np.random.default_rng(0)
    return random.integers(0, 3, (2, 7, 6, 5)).astype(np.uint8)


def test_dice_is_that_of_simpleitk_and_monai(maps):
    found, reference = maps
    measure = SimpleITK.LabelOverlapMeasuresImageFilter()
    measure.Execute(SimpleITK.GetImageFromArray(found), SimpleITK.GetImageFromArray(reference))
    one_hot = [torch.nn.functional.one_hot(torch.from_numpy(m).long(), 3).movedim(-1, 0)[None] for m in maps]
    monai = DiceMetric(include_background=True)(*one_hot)[0]
    for label in (1, 2):
        assert dice(found, reference, label) == pytest.approx(measure.GetDiceCoefficient(label))
        assert dice(found, reference, label) == pytest.approx(float(monai[label]))


def test_dice_at_its_ends(maps):
    assert dice(maps[0], maps[0], 1) == 1
    assert dice(maps[0], np.zeros_like(maps[0]), 1) == 0
    assert np.isnan(dice(maps[0], maps[1], 9))
    with pytest.raises(BadInput, match="one grid"):
        dice(maps[0], maps[1][:-1], 1)


def test_scores_of_cases_are_named_by_label(maps):
    scores = dice_by_case([maps[0]], [maps[1]], {"anterior": (1,), "posterior": (2,)})
    assert scores == [{"anterior": dice(*maps, 1), "posterior": dice(*maps, 2)}]


def test_persons_count_equally_however_many_cases_they_have():
    scores = {"a1": 0.0, "a2": 0.2, "b1": 0.9}
    found = mean_by_person(scores, {"a1": "a", "a2": "a", "b1": "b"}, seed=0)
    assert found.estimate == pytest.approx(0.5)
    assert (found.low, found.high, found.persons) == (pytest.approx(0.1), pytest.approx(0.9), 2)


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(1).normal(0.8, 0.1, 40)
    cases = {f"case{number}": value for number, value in enumerate(values)}
    found = mean_by_person(cases, {case: case for case in cases}, seed=0)
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, random_state=1)
    np.testing.assert_allclose((found.low, found.high), expected.confidence_interval, atol=2e-3)
    assert found == mean_by_person(cases, {case: case for case in cases}, seed=0)


def test_a_pair_is_compared_on_the_same_cases():
    person_of = {"a": "a", "b": "b"}
    found = paired_difference({"a": 0.9, "b": 0.8}, {"a": 0.8, "b": 0.7}, person_of, seed=0)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    with pytest.raises(BadInput, match="same cases"):
        paired_difference({"a": 0.9}, {"a": 0.8, "b": 0.7}, person_of, seed=0)


@pytest.mark.parametrize(("scores", "person_of"), [({}, {}), ({"a": 1.0}, {})])
def test_scores_need_cases_and_cases_a_person(scores, person_of):
    with pytest.raises(BadInput, match="each of a person"):
        mean_by_person(scores, person_of, seed=0)
