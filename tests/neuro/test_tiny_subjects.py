"""The simulated subject of the tiny profile: what it saw, what is kept aside, and a decoder that learns from it."""

import numpy as np
import pytest
import torch

from voxelight.models.errors import BadInput
from voxelight.neuro.simulation import DesignOptions
from voxelight.neuro.tiny.descent import Sitting
from voxelight.neuro.tiny.pictures import Pictures
from voxelight.neuro.tiny.recipe import SubjectStage, find_tiny_recipe
from voxelight.neuro.tiny.stages import count_steps
from voxelight.neuro.tiny.subjects import (
    find_trials,
    fit_subject,
    plan_subject,
    record_subject,
    score_oracle,
    shuffle_trials,
)
from voxelight.neuro.training.start import build_decoder

DESIGN = DesignOptions(pictures=60, shared=20, repeats=3, trials=30, runs=2)
NETWORK = {"hidden": 16, "tokens": 4, "dim": 32, "low_level": False}
PRIOR = {"dim": 32, "depth": 1, "dim_head": 16, "heads": 2, "tokens": 4}


@pytest.fixture(scope="module")
def recipe():
    decoder = {
        "sessions": 6,
        "trials_a_session": 30,
        "batch": 12,
        "epochs": 12,
        "learning_rate": 3e-3,
        "config": {**NETWORK, "prior": PRIOR},
        "losses": {"low_level": 0.0},
    }
    stage = SubjectStage(voxels=120, design=DESIGN, decoder=decoder)
    return find_tiny_recipe().model_copy(update={"subject": stage})


def draw(count, seed):
    """Smooth coloured pictures."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4)).astype(np.uint8)
    keys = tuple(f"{seed}-{number}" for number in range(count))
    return Pictures(np.kron(coarse, np.ones((16, 16), np.uint8)), np.zeros(count, np.int64), keys, ("noise",))


@pytest.fixture(scope="module")
def pictures():
    return draw(50, 1), draw(24, 2)


@pytest.fixture(scope="module")
def recording(pictures, recipe):
    return record_subject(*pictures, recipe)


def test_shared_pictures_are_those_kept_aside():
    first, second = (plan_subject(50, 24, number, 0, DESIGN) for number in (1, 2))
    for plan in (first, second):
        assert (plan.pictures[plan.shared] >= 50).all()
        assert (plan.pictures[~plan.shared] < 50).all()
        shown, times = np.unique(plan.pictures, return_counts=True)
        assert (len(shown), set(times)) == (60, {3})
    np.testing.assert_array_equal(np.unique(first.pictures[first.shared]), np.unique(second.pictures[second.shared]))
    assert not np.array_equal(first.pictures[~first.shared], second.pictures[~second.shared])
    with pytest.raises(BadInput):
        plan_subject(50, 5, 1, 0, DESIGN)


def test_no_picture_is_both_trained_on_and_kept_aside(recording, pictures):
    training, held_out = (set(part.keys) for part in pictures)
    assert set(recording.betas.stimulus_ids[recording.train]) <= training
    assert set(recording.shown) <= held_out
    assert recording.test.shape == (20, 3)
    ids = recording.betas.stimulus_ids[recording.test]
    assert (ids == ids[:, :1]).all()


def test_betas_are_standardised_by_training_trials_alone(recording):
    sessions = recording.betas.labels["session"][recording.train]
    for session in np.unique(sessions):
        values = recording.betas.values[recording.train[sessions == session]]
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-4)
    assert recording.betas.simulated


def test_the_oracle_knows_more_than_chance_and_shuffled_trials_belong_to_others(recording, pictures):
    rows = {key: row for row, key in enumerate(pictures[1].keys)}
    images = pictures[1].pixels[[rows[key] for key in recording.shown]].transpose(0, 2, 3, 1).astype(np.float32) / 255
    found = score_oracle(recording, images, 20)
    assert found["two_way"] > 0.9
    trials = find_trials(recording)
    shuffled = shuffle_trials(trials, 0)
    assert sorted(x.tobytes() for x in trials) == sorted(x.tobytes() for x in shuffled)
    assert not any(np.array_equal(a, b) for a, b in zip(trials, shuffled, strict=True))


def test_the_decoder_learns_from_the_recording(recording, pictures, recipe):
    # Tokens that follow from the pictures, so that there is something to be learnt.
    torch.set_num_threads(1)
    coarse = torch.from_numpy(pictures[0].pixels[:, :, 8::16, 8::16].reshape(50, 48).astype(np.float32) / 255 - 0.5)
    tokens = (coarse @ torch.randn(48, 128, generator=torch.Generator().manual_seed(0)) / 4).reshape(50, 4, 32)
    rows = []

    class Log:
        def write(self, some):
            rows.extend(some)

        def rewind(self, step):
            del rows[step:]

    sitting = Sitting()
    sitting = Sitting(type(sitting.hooks)(log=Log()), type(sitting.options)(log_steps=10))
    fitted = fit_subject([recording], pictures[0].keys, tokens, recipe, "cpu", sitting)
    assert fitted.finished
    assert rows[-1]["clip"] < rows[0]["clip"] / 2
    again = fit_subject([recording], pictures[0].keys, tokens, recipe, "cpu", Sitting())
    for name, value in fitted.weights.items():
        assert torch.equal(value, again.weights[name]), name


def test_companions_see_other_pictures_and_leave_no_map_of_their_own(recording, pictures, recipe):
    torch.set_num_threads(1)
    companion = record_subject(*pictures, recipe, companion=1)
    assert companion.betas.subject.endswith("02")
    assert set(companion.betas.stimulus_ids[companion.train]) != set(recording.betas.stimulus_ids[recording.train])
    assert companion.shown == recording.shown
    tokens = torch.randn(50, 4, 32, generator=torch.Generator().manual_seed(0))
    small = recipe.subject.model_copy(update={"companions": 1, "decoder": recipe.subject.decoder | {"epochs": 2}})
    recipe = recipe.model_copy(update={"subject": small})
    fitted = fit_subject([recording, companion], pictures[0].keys, tokens, recipe, "cpu", Sitting())
    assert count_steps(recipe, "subject") == fitted.steps
    ridges = {name for name in fitted.weights if name.startswith("ridge.")}
    assert ridges == {"ridge.linears.0.weight", "ridge.linears.0.bias"}
    # What ships is the decoder of one subject.
    build_decoder(small.find_decoder(0), [120]).load_state_dict(fitted.weights)
