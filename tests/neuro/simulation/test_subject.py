"""Subjects: named by their kind, themselves whatever is simulated beside them, and worth decoding."""

from dataclasses import replace

import numpy as np
import pytest

from voxelight.models.errors import BadInput, NotFound, Refused
from voxelight.models.values import Betas, ClipTokens, Stimuli
from voxelight.neuro.betas import average_repeats, select_rows
from voxelight.neuro.simulation import (
    KINDS,
    DesignOptions,
    Encoder,
    NoiseOptions,
    StimuliSet,
    SubjectOptions,
    collect_batches,
    make_subject,
    plan_trials,
    refuse_circular,
    simulate,
    simulate_session,
    tokens_by_id,
)
from voxelight.storage.formats.images import read_stimuli

SMALL = SubjectOptions(voxels=60)


def standardised(betas: Betas) -> np.ndarray:
    values = betas.values.astype(np.float64)
    for session in np.unique(betas.labels["session"]):
        rows = betas.labels["session"] == session
        values[rows] = (values[rows] - values[rows].mean(0)) / values[rows].std(0)
    return values


def test_every_result_names_its_kind(simulated, matched):
    for kind, (subject, betas) in {"mismatched": simulated, "matched": matched}.items():
        assert betas.simulated
        assert betas.subject == subject.name == f"simulated-{kind}-01"
        assert kind in betas.roi
        assert subject.late.encoder.name in betas.roi
        assert subject.options.kind in KINDS


def test_trials_are_labelled(simulated, plan):
    _, betas = simulated
    assert set(betas.labels) == {"session", "run", "repeat", "shared"}
    assert np.unique(betas.labels["session"]).tolist() == [f"ses-{number:02d}" for number in range(1, 5)]
    assert len(np.unique(betas.labels["run"])) == 20
    shown = betas.stimulus_ids[betas.labels["shared"] == "1"]
    assert np.unique(shown, return_counts=True)[1].tolist() == [3] * 100


def test_a_subject_is_the_same_whatever_is_simulated_beside_it(photographs, plan, simulated):
    subject, betas = simulated
    alone = simulate(make_subject(1, photographs, subject.options), photographs, plan, sessions=1)
    # To rounding: products of another shape may sum in another order.
    np.testing.assert_allclose(alone.values, betas.values[:300], rtol=1e-5, atol=1e-6)
    assert alone.stimulus_ids.tolist() == betas.stimulus_ids[:300].tolist()


def test_subjects_and_seeds_differ(photographs, plan):
    subjects = [
        make_subject(number, photographs, SubjectOptions(voxels=60, seed=seed))
        for number, seed in ((1, 0), (2, 0), (1, 1))
    ]
    stimuli = photographs.read(np.arange(50))
    answering = np.min([subject.signal_std for subject in subjects], axis=0) > 0.05
    first, *others = (subject.respond(stimuli)[:, answering] for subject in subjects)
    for other in others:
        alike = [abs(np.corrcoef(a, b)[0, 1]) for a, b in zip(first.T, other.T, strict=True)]
        assert max(alike) < 0.999
    assert len({tuple(subject.ncsnr) for subject in subjects}) == 3


def test_variances_are_those_that_were_set(photographs, simulated):
    subject, betas = simulated
    responses = subject.respond(photographs.read(np.arange(len(photographs.ids))))
    np.testing.assert_allclose(responses.std(0), subject.signal_std, atol=1e-3)
    np.testing.assert_allclose(responses.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(subject.signal_std**2 + subject.noise_std**2, 1)
    within = np.stack([betas.values[betas.labels["session"] == name] for name in np.unique(betas.labels["session"])])
    gains = within.std(1).mean(1)
    assert gains == pytest.approx(np.ones(4), abs=0.35)
    assert gains.std() > 0.02  # sessions have gains of their own
    assert np.abs(within.mean(1)).mean() > 0.1  # and offsets


def test_noise_is_correlated_and_drifts(simulated):
    subject, _ = simulated
    silent, runs = np.zeros((1200, 600), np.float32), np.repeat(np.arange(5), 240)
    quiet = {"overlap": 0, "gain": 0, "offset": 0}
    noisy = {}
    for name, noise in {
        "common": NoiseOptions(correlated=0.9, drift=0, **quiet),
        "drift": NoiseOptions(correlated=0, drift=0.9, **quiet),
        "own": NoiseOptions(correlated=0, drift=0, **quiet),
    }.items():
        changed = replace(subject, options=subject.options.model_copy(update={"noise": noise}))
        noisy[name] = simulate_session(changed, 1, silent, runs)
        assert noisy[name].var(0).mean() == pytest.approx((subject.noise_std**2).mean(), rel=0.1)
    np.testing.assert_allclose(noisy["own"].var(0), subject.noise_std**2, rtol=0.2)
    shares = {name: np.linalg.eigvalsh(np.corrcoef(noise.T))[::-1] / 600 for name, noise in noisy.items()}
    assert shares["common"][:20].sum() > 0.85
    assert shares["own"][:20].sum() < 0.15
    along = {name: np.mean([np.corrcoef(v[1:], v[:-1])[0, 1] for v in noise.T]) for name, noise in noisy.items()}
    assert along["drift"] > 0.6
    assert abs(along["own"]) < 0.05


def test_repeats_of_a_picture_are_told_from_others(simulated):
    """From betas alone: the mean of two repeats finds the third among 400, far above chance and below certainty."""
    _, betas = simulated
    order = np.lexsort([betas.labels["repeat"], betas.stimulus_ids])
    third = standardised(betas)[order].reshape(-1, 3, betas.values.shape[1])
    scores = np.corrcoef(third[:, :2].mean(1), third[:, 2])[:400, 400:]
    right = (scores.argmax(1) == np.arange(400)).mean()
    assert 0.1 < right < 0.9


def test_pictures_never_seen_are_told_apart_by_ridge(photographs, simulated):
    """A linear decoder of small pictures, fitted on other pictures, beats pictures shuffled among trials."""
    _, betas = simulated
    averaged = average_repeats(replace(betas, values=standardised(betas).astype(np.float32)))
    place = {name: row for row, name in enumerate(photographs.ids.tolist())}
    seen = photographs.read(np.array([place[name] for name in averaged.stimulus_ids.tolist()]))
    pixels = seen.images.reshape(400, 16, 4, 16, 4, 3).mean((2, 4)).reshape(400, -1)
    test = averaged.labels["shared"] == "1"
    train_x, train_y = averaged.values[~test], pixels[~test] - pixels[~test].mean(0)
    weights = np.linalg.solve(train_x.T @ train_x + 300 * np.eye(600), train_x.T @ train_y)
    guess = averaged.values[test] @ weights
    scores = np.corrcoef(guess, pixels[test] - pixels[~test].mean(0))[:100, 100:]
    two_way = (scores.diagonal()[:, None] > scores).sum() / (100 * 99)
    assert two_way > 0.85


def test_late_voxels_may_follow_any_encoder(photographs):
    encoder = Encoder("mean-colour", lambda stimuli: stimuli.images.mean((1, 2)))
    subject = make_subject(1, photographs, SMALL, encoder)
    stimuli = photographs.read(np.arange(100))
    late = subject.respond(stimuli)[:, subject.regions == "higher"]
    assert np.linalg.matrix_rank(late, tol=1e-3) > 3  # compressed, so no longer linear in three numbers
    assert "mean-colour" in subject.roi
    assert (subject.regions == "higher").sum() == late.shape[1]


def test_pictures_of_any_size_and_colour_can_be_seen():
    random = np.random.default_rng(0)
    for shape in ((30, 24, 24, 1), (30, 90, 120, 3)):
        pictures = StimuliSet(Stimuli(random.uniform(size=shape).astype(np.float32), np.arange(30).astype(str)))
        responses = make_subject(1, pictures, SMALL).respond(pictures.read(np.arange(30)))
        assert responses.shape == (30, 60)
        assert np.isfinite(responses).all()


def test_real_photographs_of_coco(shared_data):
    paths = sorted((shared_data / "coco_mini").rglob("*.jpg"))
    pictures = StimuliSet(read_stimuli(paths, size=64))
    plan = plan_trials(len(paths), 1, 0, DesignOptions(pictures=80, shared=20, trials=60, runs=4))
    betas = simulate(make_subject(1, pictures, SMALL), pictures, plan)
    assert betas.values.shape == (240, 60)
    assert average_repeats(select_rows(betas, np.arange(240))).values.shape == (80, 60)


def test_batches_are_put_together(photographs):
    parts = [photographs.read(np.arange(first, first + 10)) for first in (0, 10, 20)]
    whole = collect_batches(iter(parts))
    assert whole.ids.tolist() == photographs.ids[:30].tolist()
    assert (whole.read(np.array([25])).images == parts[2].images[5:6]).all()
    with pytest.raises(BadInput, match="batches"):
        collect_batches([])


def test_an_encoder_that_is_also_target_or_judge_is_refused():
    refuse_circular("scattering", "ViT-bigG-14/tokens", ["efficientnet_b1"])
    for target, judges in (("clip", ["inception"]), ("bigG", ["clip"])):
        with pytest.raises(Refused, match="neither target nor judge"):
            refuse_circular("clip", target, judges)


def test_what_cannot_be_encoded_is_refused(photographs, tokens):
    with pytest.raises(BadInput, match="tokens of the decoder"):
        make_subject(1, photographs, SubjectOptions(kind="matched"))
    with pytest.raises(BadInput, match="2 ids"):
        tokens_by_id(tokens, np.array(["a", "b"]))
    few = tokens_by_id(ClipTokens(tokens.values[:10], "few"), photographs.ids[:10])
    with pytest.raises(NotFound, match="few without 9"):
        make_subject(1, photographs, SubjectOptions(kind="matched", voxels=10), few)
    with pytest.raises(BadInput, match="one row"):
        make_subject(1, photographs, SMALL, Encoder("broken", lambda stimuli: np.full((3, 2), np.nan)))
    with pytest.raises(BadInput, match="at most 16384"):
        make_subject(1, photographs, SMALL, Encoder("wide", lambda stimuli: np.repeat(stimuli.images, 2, axis=1)))
