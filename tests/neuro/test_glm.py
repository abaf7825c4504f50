"""Single-trial betas from BOLD: against nilearn where the models agree, and on simulated runs whose betas are known."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from fracridge import fracridge
from nilearn.glm.first_level import compute_regressor, make_first_level_design_matrix, run_glm
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.glm.design import Events, Run, Timing, design_trials, find_measured, find_non_steady, nuisance_of
from voxelight.neuro.glm.frames import find_autoregression, scale
from voxelight.neuro.glm.hrf import CANONICAL, Hrf, list_responses
from voxelight.neuro.glm.options import PRESETS, GlmOptions, find_preset
from voxelight.neuro.glm.quality import assess
from voxelight.neuro.glm.session import choose_for_session, estimate_run, fit_session
from voxelight.neuro.glm.simulate import BoldOptions, simulate_bold
from voxelight.neuro.glm.solve import remove, solve_all, solve_ridge, solve_separately

SMALL = BoldOptions(voxels=160, runs=4, trials=40, stimuli=40, noise=1.5, shared=0.5, rank=3)


@pytest.fixture(scope="module")
def simulated():
    return simulate_bold(0, SMALL)


@pytest.fixture(scope="module")
def fitted(simulated):
    return fit_session(simulated.runs, GlmOptions())


def correlate(found, true):
    a, b = found - found.mean(0), true - true.mean(0)
    lengths = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.divide((a * b).sum(0), lengths, out=np.zeros_like(lengths, dtype=float), where=lengths > 0)


@pytest.fixture
def events():
    onsets = np.array([3.21, 7.4, 12.05, 16.0, 23.7, 31.33])
    return Events(onsets, np.array([3.0, 3.0, 0.5, 3.0, 7.0, 3.0]), np.array(list("abcdef")))


@pytest.mark.parametrize("hrf", list_responses())
def test_the_integral_of_a_response_is_that_of_its_density(hrf):
    times = np.arange(0, 30, 0.01)
    summed = np.concatenate([[0], np.cumsum((hrf.density(times)[1:] + hrf.density(times)[:-1]) / 2 * 0.01)])
    np.testing.assert_allclose(hrf.integral(times), summed, atol=1e-4)
    assert times[hrf.density(times).argmax()] == pytest.approx(hrf.peak_s, abs=0.05)


def test_the_library_holds_the_canonical_response_once():
    assert len(set(list_responses())) == 20
    assert list_responses().count(CANONICAL) == 1


def test_a_design_off_the_grid_of_volumes_is_that_of_nilearn(events):
    timing = Timing(1.6, 40, 0.8)
    ours = design_trials(events, timing, CANONICAL, 3.0)
    for trial, (onset, duration) in enumerate(zip(events.onsets, events.durations, strict=True)):
        theirs = compute_regressor(
            np.array([[onset], [duration], [1.0]]), "spm", timing.times, oversampling=400, min_onset=-24
        )[0][:, 0]
        assert correlate(ours[:, [trial]], theirs[:, None])[0] > 0.9999
    # Durations differ, and so do heights: nilearn's are sums of a response of sum 1 as well.
    lengths = np.linalg.norm(ours, axis=0)
    assert lengths[4] > 1.5 * lengths[3] > 1.5 * lengths[2]


def test_a_time_shift_moves_the_design(events):
    early, late = (design_trials(events, Timing(1.6, 40, start), CANONICAL, 3.0) for start in (0.0, 0.8))
    shifted = replace(events, onsets=events.onsets - 0.8)
    np.testing.assert_allclose(late, design_trials(shifted, Timing(1.6, 40, 0.0), CANONICAL, 3.0))
    assert np.abs(early - late).max() > 0.1


def test_betas_are_those_of_nilearn_by_least_squares_and_one_by_one(events):
    random = np.random.default_rng(0)
    timing = Timing(1.6, 60, 0.8)
    design = design_trials(events, timing, CANONICAL, 3.0)
    run = Run("run-01", random.standard_normal((60, 7)), timing, events, confounds=random.standard_normal((60, 3)))
    nuisance = nuisance_of(run, 2)
    whole = np.concatenate([design, nuisance], axis=1)
    labels, results = run_glm(run.bold, whole, noise_model="ols")
    theirs = results[labels[0]].theta[: len(events.onsets)]
    x, y = remove(nuisance, design), remove(nuisance, run.bold)
    np.testing.assert_allclose(solve_all(x, y), theirs, atol=1e-8)
    for trial in range(len(events.onsets)):
        pair = np.stack([design[:, trial], np.delete(design, trial, 1).sum(1)], axis=1)
        labels, results = run_glm(run.bold, np.concatenate([pair, nuisance], axis=1), noise_model="ols")
        np.testing.assert_allclose(solve_separately(x, y)[trial], results[labels[0]].theta[0], atol=1e-8)


def test_the_baseline_is_what_nilearn_gives_with_its_own_design_matrix(simulated):
    run = simulated.runs[0]
    events = {"onset": run.events.onsets, "duration": run.events.durations,
              "trial_type": [f"t{trial:03d}" for trial in range(len(run.events.onsets))]}  # fmt: skip
    matrix = make_first_level_design_matrix(
        run.timing.times, pd.DataFrame(events), hrf_model="spm", drift_model="polynomial", drift_order=2
    )
    signal = scale(run.bold, slice(None), percent=True)
    labels, results = run_glm(signal, matrix.values, noise_model="ols")
    theirs = results[labels[0]].theta[: len(run.events.onsets)]
    ours, _, _ = fit_session([run], find_preset("glm-canonical").model_copy(update={"drift_degree": 2}))
    assert np.median(correlate(ours, theirs)) > 0.998
    # The unit differs, and nothing else: ours are heights of the response to one event.
    ratio = (ours * theirs).sum() / (theirs**2).sum()
    assert np.linalg.norm(ours - ratio * theirs) / np.linalg.norm(ours) < 0.07


def test_one_voxel_and_fraction_are_as_by_fracridge_and_have_the_length_asked_for():
    random = np.random.default_rng(1)
    x, y = random.standard_normal((50, 8)), random.standard_normal((50, 3))
    y[:, 1] = 0
    found = solve_ridge(x, y, np.array([0.4, 1.0]))
    lengths = np.linalg.norm(found, axis=0)
    np.testing.assert_allclose(lengths[0, [0, 2]] / lengths[1, [0, 2]], 0.4, rtol=0.02)
    np.testing.assert_allclose(found[:, 1, [0, 2]], np.linalg.lstsq(x, y[:, [0, 2]], rcond=None)[0], atol=1e-8)
    np.testing.assert_allclose(found[:, 0, 0], fracridge(x, y[:, 0], 0.4, jit=False)[0], rtol=1e-10)
    assert not found[:, :, 1].any()


def test_the_pipeline_recovers_betas_better_than_the_baseline(simulated, fitted):
    baseline, _, _ = fit_session(simulated.runs, find_preset("glm-canonical"))
    betas, runs, choices = fitted
    answers = simulated.answers
    r = {name: np.median(correlate(found, simulated.betas)[answers])
         for name, found in {"baseline": baseline, "ours": betas}.items()}  # fmt: skip
    assert r["ours"] > r["baseline"] + 0.1
    error = {name: np.median(np.abs(found - simulated.betas)[:, answers])
             for name, found in {"baseline": baseline, "ours": betas}.items()}  # fmt: skip
    assert error["ours"] < 0.8 * error["baseline"]
    assert sum(len(run.events.onsets) for run in runs) == len(betas) == SMALL.runs * SMALL.trials
    assert not choices.notes


def test_choices_are_those_of_the_simulation(simulated, fitted):
    choices, answers = fitted[2], simulated.answers
    found = np.array([list_responses()[number].peak_s for number in choices.response])
    true = np.array([hrf.peak_s for hrf in simulated.responses])
    assert np.abs(found - true)[answers].mean() < 0.7 * np.abs(CANONICAL.peak_s - true)[answers].mean()
    assert abs(choices.count - SMALL.rank) <= 2
    assert choices.pool[~answers].mean() > 0.9
    assert choices.pool[answers].mean() < 0.1
    assert np.median(choices.fraction[answers]) < 0.8


def test_blocks_of_voxels_change_nothing(simulated):
    some = [replace(run, bold=run.bold[:, ::3]) for run in simulated.runs[:2]]
    options = GlmOptions(denoise=False, fractions=(0.3, 1.0))
    wide, _, chosen = fit_session(some, options)
    narrow, _, choices = fit_session(some, options.model_copy(update={"block_voxels": 17}))
    np.testing.assert_array_equal(choices.response, chosen.response)
    np.testing.assert_array_equal(choices.fraction, chosen.fraction)
    np.testing.assert_allclose(narrow, wide, rtol=1e-4, atol=1e-4)


def test_each_run_is_estimated_alone_by_what_was_chosen(simulated, fitted):
    betas, runs, choices = fitted
    third, frame = estimate_run(simulated.runs, 2, choices, GlmOptions())
    start = sum(len(each.events.onsets) for each in runs[:2])
    np.testing.assert_array_equal(third, betas[start : start + len(frame.run.events.onsets)])
    assert frame.components.shape == (frame.run.timing.volumes, choices.count)


def test_a_run_that_took_no_part_is_estimated_by_what_others_chose(simulated):
    choices = choose_for_session(simulated.runs[:3], GlmOptions())
    found, frame = estimate_run(simulated.runs, 3, choices, GlmOptions())
    renamed = replace(frame.run.events, stimulus_ids=np.roll(frame.run.events.stimulus_ids, 5))
    other = replace(simulated.runs[3], events=renamed)
    again, _ = estimate_run([*simulated.runs[:3], other], 3, choices, GlmOptions())
    np.testing.assert_array_equal(found, again)  # nothing of what was shown when
    assert np.median(correlate(found, simulated.betas[-SMALL.trials :])[simulated.answers]) > 0.4


def test_the_autoregression_is_found_in_spite_of_the_fit():
    for rho in (0.0, 0.4):
        options = BoldOptions(voxels=150, runs=1, trials=40, stimuli=40, autoregression=rho, shared=0, drift=0)
        run = simulate_bold(3, options).runs[0]
        design = design_trials(run.events, run.timing, CANONICAL, 3.0)
        assert find_autoregression(run, nuisance_of(run), design, percent=True) == pytest.approx(rho, abs=0.12)


def test_designs_without_repeats_skip_what_takes_them_and_say_so():
    options = SMALL.model_copy(update={"stimuli": 160, "voxels": 40})
    simulated = simulate_bold(1, options)
    betas, _, choices = fit_session(simulated.runs, GlmOptions())
    assert choices.estimate == "lss"
    assert choices.count == 0
    assert (choices.fraction == 1).all()
    assert any("skipped" in note and "repeats" in note for note in choices.notes)
    plain, _, _ = fit_session(simulated.runs, find_preset("glm-lss"))
    np.testing.assert_array_equal(betas, plain)
    one, _, alone = fit_session(simulated.runs[:1], GlmOptions())
    assert any("one run" in note for note in alone.notes)
    assert len(one) == options.trials


def test_too_few_voxels_for_components_are_said(simulated):
    few = [replace(run, bold=run.bold[:, :20]) for run in simulated.runs]
    choices = choose_for_session(few, GlmOptions())
    assert choices.count == 0
    assert any("noise components skipped" in note for note in choices.notes)


def test_volumes_before_steady_magnetisation_are_flagged_and_weigh_nothing(simulated):
    run = simulated.runs[0]
    bold = run.bold.copy()
    bold[:2] *= np.array([[1.4], [1.1]], dtype=np.float32)
    assert find_non_steady(run.bold.mean(1)) == 0
    assert find_non_steady(bold.mean(1)) == 2
    options = find_preset("glm-canonical").model_copy(update={"percent": False})
    flagged = replace(run, bold=bold, non_steady=2)
    betas, _, choices = fit_session([flagged], options)
    worse = bold.copy()
    worse[:2] *= 3
    again, _, _ = fit_session([replace(flagged, bold=worse)], options)
    np.testing.assert_allclose(betas, again, rtol=1e-3, atol=1e-2)
    assert any("2 volumes" in note for note in choices.notes)


def test_events_past_the_end_are_refused_and_those_cut_off_are_left_out_and_said(events):
    random = np.random.default_rng(0)
    with pytest.raises(BadInput, match="1 of 6 events past the end of run-03"):
        Run("run-03", random.standard_normal((18, 3)), Timing(1.6, 18), events)
    short = Run("run-03", 100 + random.standard_normal((20, 3)), Timing(1.6, 20), events)
    assert find_measured(events, short.timing, CANONICAL).tolist() == [True] * 5 + [False]
    betas, [run], choices = fit_session([short], find_preset("glm-canonical"))
    assert betas.shape == (5, 3)
    assert run.events.stimulus_ids.tolist() == list("abcde")
    assert "run-03: 1 trials left out" in choices.notes[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"repetition_s": 1600.0}, "seconds"),
        ({"repetition_s": 0.0}, "RepetitionTime"),
    ],
)
def test_repetition_times_that_are_none_are_refused(change, said):
    with pytest.raises(BadInput, match=said):
        Timing(**{"repetition_s": 1.6, "volumes": 10} | change)


@pytest.mark.parametrize(
    "change", [{"onsets": np.array([1.0, np.nan])}, {"durations": np.array([1.0, -1.0])}, {"onsets": np.ones(3)}]
)
def test_events_that_are_none_are_refused(change):
    parts = {"onsets": np.array([1.0, 9.0]), "durations": np.ones(2), "stimulus_ids": np.array(["a", "b"])}
    with pytest.raises(BadInput):
        Events(**parts | change)


def test_more_trials_than_volumes_can_tell_apart_are_refused():
    events = Events(np.linspace(1, 20, 40), np.ones(40), np.array([f"s{n}" for n in range(40)]))
    run = Run("run-01", 100 + np.random.default_rng(0).standard_normal((30, 4)), Timing(1.6, 30), events)
    with pytest.raises(BadInput, match="lss"):
        fit_session([run], find_preset("glm-canonical"))
    betas, _, _ = fit_session([run], find_preset("glm-lss"))
    assert np.isfinite(betas).all()


def test_a_signal_without_its_mean_is_refused_or_taken_as_it_is(simulated):
    centred = [replace(run, bold=run.bold - run.bold.mean(0)) for run in simulated.runs]
    with pytest.raises(BadInput, match="z-scoring"):
        fit_session(centred, find_preset("glm-canonical"))
    betas, _, _ = fit_session(centred, find_preset("glm-canonical").model_copy(update={"percent": False}))
    percent, _, _ = fit_session(simulated.runs, find_preset("glm-canonical"))
    assert np.median(correlate(betas, percent)) > 0.999


def test_quality_is_high_where_voxels_answer_and_falls_with_wrong_ids(simulated, fitted):
    betas, runs, _ = fitted
    ids = np.concatenate([run.events.stimulus_ids for run in runs])
    quality = assess(Betas(betas, ids, "01", "brain", simulated=True))
    answers = simulated.answers
    assert quality.alignment.aligned is True
    assert np.median(quality.reliability[answers]) > 0.5 > np.median(quality.reliability[~answers])
    assert np.median(quality.explainable[answers]) > np.median(quality.explainable[~answers])
    true = correlate(betas, simulated.betas)
    assert np.corrcoef(quality.ncsnr[answers], true[answers])[0, 1] > 0.3
    mixed = np.random.default_rng(4).permutation(ids)
    wrong = assess(Betas(betas, mixed, "01", "brain", simulated=True))
    assert wrong.alignment.aligned is False
    alone = assess(Betas(betas[:40], np.array([f"s{n}" for n in range(40)]), "01", "brain"))
    assert alone.reliability is None
    assert alone.alignment.aligned is None


def test_presets_are_checked():
    assert set(PRESETS) == {"glm-single-trial", "glm-lss", "glm-canonical"}
    with pytest.raises(ValueError, match="rise"):
        GlmOptions(fractions=(0.5, 0.2, 1.0))
    assert Hrf() == CANONICAL


@pytest.fixture(scope="module")
def haxby(shared_data):
    """Twelve real runs of one slice, eight blocks of eight categories in each, with its motion."""
    folder = shared_data / "pymvpa_haxby" / "haxby2001" / "sub001" / "BOLD"
    runs, mask = [], None
    for number in range(1, 13):
        place = folder / f"task001_run{number:03d}"
        bold = np.asarray(nib.load(place / "bold_1slice.nii.gz").dataobj, dtype=np.float32)
        mean = bold.mean(3)
        mask = mean > 0.3 * np.percentile(mean, 98) if mask is None else mask
        table = pd.read_csv(place / "bold_events.tsv", sep="\t")
        events = Events(table.onset.to_numpy(float), table.duration.to_numpy(float), table.trial_type.to_numpy(str))
        motion = np.loadtxt(place / "bold_moest.txt")
        motion = (motion - motion.mean(0)) / motion.std(0)
        runs.append(Run(f"run-{number:02d}", bold[mask].T.copy(), Timing(2.5, bold.shape[3]), events, motion))
    return runs


def classify(betas, categories, train, test):
    model = make_pipeline(StandardScaler(), RidgeClassifier(100.0)).fit(betas[train], categories[train])
    return float((model.predict(betas[test]) == categories[test]).mean())


def test_block_betas_of_a_real_recording_tell_eight_categories_with_one_run_left_out(haxby):
    categories = np.concatenate([run.events.stimulus_ids for run in haxby])
    run = np.repeat(np.arange(12), 8)
    # The responses are chosen by when something was shown and not by what, so that no held-out label takes part.
    betas, _, choices = fit_session(haxby, find_preset("glm-lss"))
    assert not choices.notes
    found = np.mean([classify(betas, categories, run != held, run == held) for held in range(12)])
    shuffled = np.concatenate([np.random.default_rng(each).permutation(categories[run == each]) for each in range(12)])
    null = np.mean([classify(betas, shuffled, run != held, run == held) for held in range(12)])
    assert found > 0.55  # chance is 0.125
    assert null < 0.3


def test_shrinkage_chosen_on_some_real_runs_serves_the_others(haxby):
    categories = np.concatenate([run.events.stimulus_ids for run in haxby])
    options = GlmOptions(denoise=False)
    choices = choose_for_session(haxby[:9], options)
    betas = np.concatenate([estimate_run(haxby, number, choices, options)[0] for number in range(12)])
    train = np.arange(len(categories)) < 72
    assert np.median(choices.fraction) < 1
    assert classify(betas, categories, train, ~train) > 0.4
