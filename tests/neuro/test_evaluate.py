"""Scores, intervals and nulls beside slower or outside ways to get them."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.intervals import bootstrap_mean, draw_permutations, moves_units_whole, permutation_p
from voxelight.neuro.evaluate.null import is_linear, permute_by_refitting, permute_fast
from voxelight.neuro.evaluate.report import score_reconstructions
from voxelight.neuro.evaluate.similarity import correlate, correlate_by_gram, own_correlation, two_way
from voxelight.neuro.folds import plan_folds, reconstruct_fold


def reconstruct_all(betas, stimuli, recipe):
    return [reconstruct_fold(betas, stimuli, fold, recipe) for fold in plan_folds(betas, recipe)]


def test_correlations_are_numpys():
    random = np.random.default_rng(0)
    predicted, pictures = random.normal(size=(6, 3, 4, 1)), random.uniform(size=(5, 3, 4, 1))
    expected = np.corrcoef(predicted.reshape(6, -1), pictures.reshape(5, -1))[:6, 6:]
    np.testing.assert_allclose(correlate(predicted, pictures), expected, rtol=1e-10)


def test_constant_pictures_correlate_with_nothing():
    pictures = np.stack([np.full((3, 3, 1), 0.1), np.arange(9.0).reshape(3, 3, 1)])
    np.testing.assert_allclose(correlate(pictures, pictures), [[0, 0], [0, 1]], atol=1e-12)


def test_correlations_from_the_gram_matrix_are_those_of_the_mixtures():
    random = np.random.default_rng(0)
    pictures, mixing = random.uniform(size=(7, 30)), random.normal(size=(2, 4, 7))
    centred = pictures - pictures.mean(1, keepdims=True)
    found = correlate_by_gram(mixing, centred @ centred.T)
    for draw in range(2):
        np.testing.assert_allclose(found[draw], correlate(mixing[draw] @ pictures, pictures), rtol=1e-9)


def test_two_way_counts_every_pair():
    random = np.random.default_rng(1)
    correlations, own = random.normal(size=(6, 9)), np.array([0, 3, 8, 3, 1, 2])
    expected = [
        np.mean([correlations[row, seen] > correlations[row, other] for other in range(9) if other != seen])
        for row, seen in enumerate(own)
    ]
    np.testing.assert_allclose(two_way(correlations, own), expected)


def test_two_way_gives_half_for_ties_and_one_for_perfection():
    assert two_way(np.zeros((3, 5)), np.arange(3)).tolist() == [0.5] * 3
    assert two_way(np.eye(4), np.arange(4)).tolist() == [1] * 4
    assert own_correlation(np.eye(4), np.arange(4)).tolist() == [1] * 4


def test_two_way_of_random_predictions_is_half():
    random = np.random.default_rng(2)
    correlations = correlate(random.normal(size=(400, 50)), random.normal(size=(400, 50)))
    assert two_way(correlations, np.arange(400)).mean() == pytest.approx(0.5, abs=0.03)


def test_interval_agrees_with_scipy():
    scores = np.random.default_rng(3).beta(8, 2, size=30)
    ids = np.array([f"s{number}" for number in range(30)])
    expected = scipy.stats.bootstrap((scores,), np.mean, method="percentile", n_resamples=20_000, rng=0)
    found = bootstrap_mean(scores, ids, 20_000, seed=1)
    np.testing.assert_allclose(found, tuple(expected.confidence_interval), atol=0.004)


def test_interval_by_group_is_wider_where_groups_differ():
    random = np.random.default_rng(4)
    groups = np.repeat(["a", "b", "c", "d", "e"], 20)
    scores = np.repeat(random.uniform(size=5), 20) + 0.01 * random.normal(size=100)
    by_group, by_item = (
        np.diff(bootstrap_mean(scores, clusters, 2000, 0))[0] for clusters in (groups, np.arange(100).astype(str))
    )
    assert by_group > 2 * by_item


def test_p_is_never_zero_and_counts_ties():
    null = np.array([0.1, 0.2, 0.3, 0.4])
    assert permutation_p(0.9, null) == 1 / 5
    assert permutation_p(0.3, null) == 3 / 5
    assert permutation_p(0.0, null) == 1


def test_stimuli_change_places_freely_where_each_is_its_own_unit():
    permutations = draw_permutations(np.array(list("abcdef")), 500, seed=0)
    assert (np.sort(permutations, axis=1) == np.arange(6)).all()
    counts = np.stack([(permutations == place).mean(0) for place in range(6)])
    np.testing.assert_allclose(counts, 1 / 6, atol=0.06)


def test_equal_groups_change_places_whole():
    units = np.array(list("abcabcabc"))
    assert moves_units_whole(units)
    permutations = draw_permutations(units, 200, seed=0)
    for order in permutations:
        assert sorted(order.tolist()) == list(range(9))
        stand_ins = {unit: set(units[order[units == unit]].tolist()) for unit in "abc"}
        assert all(len(others) == 1 for others in stand_ins.values())
    assert len({tuple(order) for order in permutations.tolist()}) > 150
    assert not moves_units_whole(np.array(list("aabbb")))


CASES = {
    "whole stimuli": {},
    "single trials": {"repeats": "single"},
    "own session": {"normalisation": "own-session"},
    "groups": {"unit": "group"},
    "runs, stimuli seen before": {"unit": "run"},
    "few folds": {"n_folds": 4, "inner_folds": 3},
    "one alpha": {"decoder_options": {"alphas": [10.0]}},
    "smaller pictures": {"picture_side": 3},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_fast_permutations_equal_running_everything_again(make_subject, make_recipe, changes):
    betas, stimuli = make_subject(noise=3.0)
    recipe = make_recipe(**changes)
    shown = stimuli.select(np.asarray(list(dict.fromkeys(betas.stimulus_ids.tolist()))))
    permutations = np.vstack([np.arange(9), draw_permutations(shown.ids, 12, seed=5)])
    fast = permute_fast(betas, shown, recipe, permutations)
    slow = permute_by_refitting(betas, shown, recipe, permutations)
    np.testing.assert_allclose(fast["two_way"], slow["two_way"], atol=1e-12)
    np.testing.assert_allclose(fast["pixel_correlation"], slow["pixel_correlation"], atol=1e-5)


def test_unpermuted_null_is_the_score(make_subject, make_recipe):
    betas, stimuli = make_subject(noise=3.0)
    recipe = make_recipe()
    report = score_reconstructions(betas, stimuli, reconstruct_all(betas, stimuli, recipe), recipe)
    shown = stimuli.select(report.stimulus_ids)
    unpermuted = permute_fast(betas, shown, recipe, np.arange(9)[None])
    for name, values in unpermuted.items():
        assert report.find(name).value == pytest.approx(values[0], abs=1e-6)


def test_permutations_in_pieces_equal_permutations_at_once(make_subject, make_recipe, monkeypatch):
    betas, stimuli = make_subject()
    permutations = draw_permutations(stimuli.ids, 20, seed=0)
    whole = permute_fast(betas, stimuli, make_recipe(), permutations)
    monkeypatch.setattr("voxelight.neuro.evaluate.null._NUMBERS_AT_ONCE", 3 * 81)
    pieces = permute_fast(betas, stimuli, make_recipe(), permutations)
    np.testing.assert_allclose(pieces["pixel_correlation"], whole["pixel_correlation"], rtol=1e-12)


@pytest.mark.parametrize("option", ["alpha_per_target", "rescale"])
def test_what_differs_from_pixel_to_pixel_takes_the_slow_way(make_subject, make_recipe, option):
    betas, stimuli = make_subject(n_stimuli=5)
    recipe = make_recipe(permutations=3, decoder_options={"alphas": [1.0, 100.0], option: True})
    assert not is_linear(recipe)
    report = score_reconstructions(betas, stimuli, reconstruct_all(betas, stimuli, recipe), recipe)
    assert report.find("two_way").p in {0.25, 0.5, 0.75, 1.0}


def test_false_positives_stay_at_their_rate(make_subject, make_recipe):
    """Betas that know nothing of the pictures: p must be about uniform."""
    recipe = make_recipe(permutations=39, decoder_options={"alphas": [1.0, 100.0]})
    p_values = []
    for seed in range(60):
        betas, stimuli = make_subject(n_stimuli=7, repeats=1, n_voxels=10, seed=seed)
        noise = np.random.default_rng(1000 + seed).normal(size=betas.values.shape).astype(np.float32)
        betas = replace(betas, values=noise)
        report = score_reconstructions(betas, stimuli, reconstruct_all(betas, stimuli, recipe), recipe)
        p_values.append(report.find("pixel_correlation").p)
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.001
    assert np.mean(np.array(p_values) <= 0.1) < 0.25


def test_report_says_under_what_conditions_it_holds(make_subject, make_recipe):
    betas, stimuli = make_subject()
    recipe = make_recipe(unit="run", normalisation="own-session", seed=4)
    betas = replace(betas, simulated=True)
    report = score_reconstructions(betas, stimuli, reconstruct_all(betas, stimuli, recipe), recipe)
    for line in report.lines()[: len(report.metrics)]:
        assert "own-session" in line
        assert "held out by run" in line
        assert "simulated" in line
    notes = " ".join(report.notes)
    assert "transductive" in notes
    assert "also occur in training" in notes
    assert "Only 9 distinct pictures" in notes
    assert "Simulated data" in notes
    assert (report.n_stimuli, report.n_folds, report.seed, report.permutations) == (9, 4, 4, 19)


def test_rows_hold_scores_beside_null_and_baselines(make_subject, make_recipe):
    betas, stimuli = make_subject()
    recipe = make_recipe()
    report = score_reconstructions(betas, stimuli, reconstruct_all(betas, stimuli, recipe), recipe)
    rows = {row["name"]: row for row in report.rows()}
    assert set(rows["two_way"]) == {"name", "value", "low", "high", "null_mean", "null_std", "p", "n"}
    assert {"two_way.training_mean", "two_way.nearest_training", "pixel_correlation"} <= set(rows)
    for row in rows.values():
        assert row["low"] <= row["value"] <= row["high"]
        assert row["n"] == 9
    assert rows["two_way"]["p"] == 0.05
    assert rows["two_way.training_mean"]["p"] is None
    assert rows["two_way.training_mean"]["value"] < 0.5  # the mean of the others opposes the picture left out
    np.testing.assert_allclose(report.by_stimulus["two_way"].mean(), rows["two_way"]["value"])


def test_order_in_which_folds_arrive_does_not_matter(make_subject, make_recipe):
    betas, stimuli = make_subject()
    recipe = make_recipe()
    folds = reconstruct_all(betas, stimuli, recipe)
    one, other = (score_reconstructions(betas, stimuli, part, recipe).rows() for part in (folds, folds[::-1]))
    assert one == other


def test_null_can_be_left_out(make_subject, make_recipe):
    betas, stimuli = make_subject()
    recipe = make_recipe(permutations=0)
    report = score_reconstructions(betas, stimuli, reconstruct_all(betas, stimuli, recipe), recipe)
    assert report.find("two_way").p is None
    assert "Null" not in " ".join(report.notes)


def test_missing_fold_is_refused_by_name(make_subject, make_recipe):
    betas, stimuli = make_subject()
    folds = reconstruct_all(betas, stimuli, make_recipe())
    with pytest.raises(BadInput, match=f"8 reconstructed folds, without {folds[0].key}"):
        score_reconstructions(betas, stimuli, folds[1:], make_recipe())


def test_two_stimuli_are_too_few(make_subject, make_recipe):
    betas, stimuli = make_subject(n_stimuli=2)
    recipe = make_recipe(decoder_options={"alphas": [1.0]}, repeats="single")
    with pytest.raises(BadInput, match="at least 3"):
        score_reconstructions(betas, stimuli, reconstruct_all(betas, stimuli, recipe), recipe)
