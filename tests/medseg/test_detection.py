"""Patient-wise and lesion-wise detection; the published figures are compared in tests/parity."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

from voxelight.medseg.detection import (
    PatientScore,
    choose_operating_point,
    count_patients,
    count_voxels,
    dice_of_found,
    pool,
    pool_rates,
    rates_by_fold,
    rates_by_volume,
    score_patient,
)
from voxelight.medseg.lesions import count_lesions, lesions_by_volume, match_lesions
from voxelight.models.errors import BadInput


def test_voxels_are_scored_as_scikit_learn_does():
    found, reference = np.random.default_rng(0).random((2, 6, 7, 8)) > 0.6
    rates = count_voxels(found, reference).rates()
    a, b = reference.ravel(), found.ravel()
    expected = {
        "recall": recall_score(a, b),
        "precision": precision_score(a, b),
        "f1": f1_score(a, b),
        "balanced_accuracy": balanced_accuracy_score(a, b),
    }
    assert {name: rates[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert score_patient(found, reference, 0.001).dice == pytest.approx(f1_score(a, b))


def test_conditions_differ_in_who_counts_as_found():
    scores = [
        PatientScore(dice=0.8, reference_ml=5, found_ml=5),
        PatientScore(dice=0.05, reference_ml=5, found_ml=6),  # something is found, elsewhere
        PatientScore(dice=0.9, reference_ml=0.05, found_ml=0.05),  # smaller than what counts
        PatientScore(dice=0, reference_ml=0, found_ml=2),
        PatientScore(dice=0, reference_ml=0, found_ml=0),
    ]
    counts = {name: count_patients(scores, name, 0.1, 0.1) for name in ("all", "positive", "tp")}
    assert {name: (c.tp, c.fn, c.fp, c.tn) for name, c in counts.items()} == {
        "all": (3, 0, 1, 1),
        "positive": (2, 0, 1, 2),
        "tp": (1, 1, 1, 2),
    }
    assert dice_of_found(scores, 0.1, 0.1) == 0.8
    assert np.isnan(dice_of_found(scores[3:]))


def test_nothing_at_all_is_no_division_by_zero():
    assert count_patients([]).rates()["f1"] == 0
    empty = score_patient(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), 1.0)
    assert (empty.dice, empty.reference_ml) == (0, 0)


def test_the_operating_point_weighs_dice_against_recall():
    patients = {0.3: [0.5, 0.5, 0.4], 0.7: [0.9, 0.0, 0.0]}
    scores = [PatientScore(dice, 4, 4, threshold=t) for t, row in patients.items() for dice in row]
    assert choose_operating_point(scores, [0.1, 0.45]) == (0.3, 0.1)  # (1.4 / 3 + 1) / 2 is the largest
    with pytest.raises(BadInput):
        choose_operating_point([], [0.1])


def test_bins_of_volume_hold_every_patient_above_the_threshold_once():
    volumes = [0.05, 0.5, 3.0, 3.1, 40]
    scores = [PatientScore(0.0 if ml < 3 else 0.8, ml, ml) for ml in volumes]
    found = rates_by_volume(scores)
    assert list(found) == ["0.1 to 3 ml", "above 3 ml"]
    assert [row["patients"] for row in found.values()] == [2, 2]
    assert [row["recall"] for row in found.values()] == pytest.approx([0.5, 1], abs=1e-5)


def test_folds_are_pooled_by_their_size():
    scores = [PatientScore(0.9, 5, 5, fold=0)] * 3 + [PatientScore(0, 5, 0, fold=1)]
    pooled = pool_rates(rates_by_fold(scores), {0: 3, 1: 1})
    assert pooled["recall"] == pytest.approx((0.75, 0.5), abs=1e-5)
    values = np.random.default_rng(0).random(9)
    parts = [values[:4], values[4:]]
    mean, spread = pool([p.mean() for p in parts], [p.std(ddof=1) for p in parts], [4, 5])
    assert mean == pytest.approx(values.mean())
    within = np.concatenate([p - p.mean() for p in parts])
    assert spread == pytest.approx(np.sqrt((within**2).sum() / 7))


def draw_lesions():
    """Two lesions drawn; the first found twice over, the second shifted, one made up, and a speck on either side."""
    reference, found = np.zeros((2, 40, 20, 20), dtype=bool)
    reference[2:8, 2:8, 2:8] = True
    reference[20:26, 2:8, 2:8] = True
    reference[35:37, 15, 15] = True
    found[2:8, 2:8, 2:5] = True
    found[2:8, 2:8, 6:8] = True
    found[22:28, 2:8, 2:8] = True
    found[30:36, 12:18, 2:8] = True
    found[0, 0, 0] = True
    return found, reference


def test_lesions_are_matched_one_to_one():
    lesions = match_lesions(*draw_lesions(), voxel_ml=0.001)
    assert lesions.reference_ml == pytest.approx((0.216, 0.216))
    assert sorted(lesions.found_ml) == pytest.approx([0.072, 0.108, 0.216, 0.216])
    assert {(r, round(lesions.found_ml[f], 3), round(dice, 3)) for r, f, dice in lesions.pairs} == {
        (0, 0.108, 0.667),  # the larger of the two pieces
        (1, 0.216, 0.667),
    }
    counts = count_lesions([lesions, lesions], cut_off=0.5)
    assert (counts.tp, counts.fn, counts.fp) == (4, 0, 4)
    assert count_lesions([lesions], cut_off=0.7).rates()["recall"] == 0
    assert count_lesions([lesions], least_ml=0.1, most_ml=0.2).fp == 0
    assert count_lesions([lesions], least_ml=0.2).rates()["f1"] == pytest.approx(2 * 2 / 5, abs=1e-5)


def test_lesions_are_counted_by_volume():
    reference = np.zeros((60, 20, 20), dtype=bool)
    reference[2:6, 2:6, 2:6] = reference[10:14, 2:6, 2:6] = True  # two of 0.64 ml at 0.01 ml a voxel
    reference[20:40, 2:12, 2:12] = True  # one of 20 ml
    found = reference.copy()
    found[10:14] = False
    found[50:54, 10:14, 10:14] = True
    by_volume = lesions_by_volume([match_lesions(found, reference, 0.01)])
    assert {name: (c.tp, c.fn, c.fp) for name, c in by_volume.items()} == {
        "all": (2, 1, 1), "0 to 3 ml": (1, 1, 1), "above 3 ml": (1, 0, 0),
    }  # fmt: skip
    assert lesions_by_volume([]) == {}


def test_the_match_is_the_best_over_all():
    """The pair with the largest Dice is not taken where it would leave another lesion without any."""
    reference, found = np.zeros((2, 60, 4, 4), dtype=bool)
    reference[0:10] = True
    reference[11:31] = True
    found[4:24] = True
    found[25:45] = True
    lesions = match_lesions(found, reference, 0.001, least_voxels=1)
    assert {(r, f) for r, f, _ in lesions.pairs} == {(0, 0), (1, 1)}


def test_no_lesion_on_either_side_is_no_error():
    empty = np.zeros((4, 4, 4))
    assert match_lesions(empty, empty, 0.001).pairs == ()
    with pytest.raises(BadInput, match="one grid"):
        match_lesions(empty, np.zeros((4, 4, 5)), 0.001)
