import numpy as np
import pytest
import scipy.stats

from voxelight.medseg.compare import find_fold_differences, nadeau_bengio, wilcoxon
from voxelight.models.errors import BadInput


def test_signed_ranks_over_persons_are_those_of_scipy():
    chance = np.random.default_rng(0)
    ours = {f"{person}-{eye}": chance.normal(0.9, 0.02) for person in range(20) for eye in "lr"}
    theirs = {case: value - chance.normal(0.01, 0.02) for case, value in ours.items()}
    person_of = {case: case.split("-")[0] for case in ours}
    means = [np.mean([ours[f"{p}-{e}"] - theirs[f"{p}-{e}"] for e in "lr"]) for p in range(20)]
    found = wilcoxon(ours, theirs, person_of)
    assert found.p == pytest.approx(scipy.stats.wilcoxon(means).pvalue)
    assert found.difference == pytest.approx(np.mean(means))
    assert found.low < found.difference < found.high
    assert found.pairs == 20
    back = wilcoxon(theirs, ours, person_of)
    assert (back.p, back.difference) == (pytest.approx(found.p), pytest.approx(-found.difference))


def test_equal_runs_do_not_differ():
    scores = {"a": 0.8, "b": 0.9}
    found = wilcoxon(scores, scores, {"a": "a", "b": "b"})
    assert (found.difference, found.p) == (0, 1)
    assert nadeau_bengio([0.0, 0.0], 10, 40).p == 1


def test_the_corrected_test_is_a_t_test_with_a_wider_error():
    differences = [0.010, 0.004, 0.012, -0.002, 0.008]
    found = nadeau_bengio(differences, 20, 80)
    plain = scipy.stats.ttest_1samp(differences, 0)
    # variance (1/5 + 20/80) in place of 1/5
    t = plain.statistic * np.sqrt((1 / 5) / (1 / 5 + 20 / 80))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(abs(t), 4))
    low, high = plain.confidence_interval(0.95)
    assert found.high - found.low == pytest.approx((high - low) * np.sqrt((0.2 + 0.25) / 0.2))
    assert found.p > plain.pvalue


def test_it_keeps_its_level_where_folds_share_their_training_data():
    """Simulated: fold differences correlate by test / (test + train), and there is no difference."""
    chance = np.random.default_rng(1)
    share = chance.normal(size=(4000, 1)) * np.sqrt(0.2)
    draws = share + chance.normal(size=(4000, 5)) * np.sqrt(0.8)
    wrong = np.mean([nadeau_bengio(row, 20, 80).p < 0.05 for row in draws])
    naive = np.mean(scipy.stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    assert wrong == pytest.approx(0.05, abs=0.012)
    assert naive > 0.1


def test_folds_are_averaged_by_themselves():
    ours, theirs = {"a": 1.0, "b": 0.5, "c": 0.2}, {"a": 0.5, "b": 0.5, "c": 0.4}
    assert find_fold_differences(ours, theirs, [("a", "b"), ("c",)]) == pytest.approx([0.25, -0.2])
    with pytest.raises(BadInput, match="fold 1"):
        find_fold_differences(ours, theirs, [("a",), ("d",)])
    with pytest.raises(BadInput, match="two folds"):
        nadeau_bengio([0.1], 5, 5)
