"""Cohen's kappa against scikit-learn, and its interval against resampling and against coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from voxelight.medseg.agreement import cohen_kappa
from voxelight.models.errors import BadInput

WORDS = ("accept", "unsure", "reject")


def make_readers(items, seed, agree=0.7):
    """Two readers who agree on purpose in some of the items, and else say what they like."""
    rng = np.random.default_rng(seed)
    first = rng.choice(WORDS, items, p=(0.6, 0.15, 0.25))
    own = rng.choice(WORDS, items, p=(0.5, 0.2, 0.3))
    return first.tolist(), np.where(rng.random(items) < agree, first, own).tolist()


@pytest.mark.filterwarnings("ignore")
@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)), min_size=1, max_size=60))
def test_kappa_is_that_of_scikit_learn(pairs):
    first, second = zip(*pairs, strict=True)
    ours, theirs = cohen_kappa(first, second, WORDS), cohen_kappa_score(first, second)
    assert ours.kappa == pytest.approx(theirs, nan_ok=True)
    assert ours.items == sum(map(sum, ours.table)) == len(pairs)
    if not math.isnan(ours.kappa):
        assert -1 <= ours.low <= ours.kappa + 1e-12
        assert ours.kappa - 1e-12 <= ours.high <= 1


def test_the_interval_is_that_of_resampling():
    first, second = (np.array(words) for words in make_readers(400, seed=1))
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(2000):
        picks = rng.integers(len(first), size=len(first))
        drawn.append(cohen_kappa(first[picks].tolist(), second[picks].tolist(), WORDS).kappa)
    found = cohen_kappa(first.tolist(), second.tolist(), WORDS)
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.02)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    truth = cohen_kappa(*make_readers(400_000, seed=3), WORDS).kappa
    found = [cohen_kappa(*make_readers(80, seed), WORDS) for seed in range(600)]
    share = np.mean([each.low <= truth <= each.high for each in found])
    assert 0.92 <= share <= 0.98


def test_full_agreement_on_few_items_proves_little():
    few = cohen_kappa(["accept", "reject"] * 3, ["accept", "reject"] * 3, WORDS)
    many = cohen_kappa(["accept", "reject"] * 300, ["accept", "reject"] * 300, WORDS)
    assert few.kappa == many.kappa == few.high == 1
    assert few.low < 0.5 < 0.98 < many.low


def test_one_word_for_all_says_nothing_of_agreement():
    found = cohen_kappa(["accept"] * 9, ["accept"] * 9, WORDS)
    assert found.observed == found.expected == 1
    assert math.isnan(found.kappa)


@pytest.mark.parametrize(("first", "second"), [([], []), (["accept"], ["accept", "reject"]), (["accept"], ["perhaps"])])
def test_what_can_not_be_compared_is_refused(first, second):
    with pytest.raises(BadInput, match="the same items"):
        cohen_kappa(first, second, WORDS)
