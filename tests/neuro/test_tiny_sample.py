"""New pictures shown to the simulated subject of the tiny profile."""

import numpy as np
import pytest

from voxelight.neuro.simulation import DesignOptions
from voxelight.neuro.tiny.pictures import Pictures
from voxelight.neuro.tiny.recipe import SubjectStage, find_tiny_recipe
from voxelight.neuro.tiny.sample import choose_sample, crop_sample, name_trials, show_new
from voxelight.neuro.tiny.subjects import record_subject


def draw(count, seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4)).astype(np.uint8)
    keys = tuple(f"{seed}-{number}" for number in range(count))
    return Pictures(np.kron(coarse, np.ones((16, 16), np.uint8)), np.zeros(count, np.int64), keys, ("noise",))


@pytest.fixture(scope="module")
def recipe():
    design = DesignOptions(pictures=200, shared=20, repeats=3, trials=150, runs=3)
    return find_tiny_recipe().model_copy(update={"subject": SubjectStage(voxels=80, design=design, decoder={})})


@pytest.fixture(scope="module")
def recording(recipe):
    return record_subject(draw(190, 1), draw(24, 2), recipe)


def test_crops_are_pictures_of_the_profiles_size_and_the_same_every_time():
    crops = crop_sample()
    assert crops.images.shape == (16, 64, 64, 3)
    assert len(set(crops.ids.tolist())) == 16
    np.testing.assert_array_equal(crops.images, crop_sample().images)


def test_new_pictures_are_answered_as_the_subject_would_answer_them(recording, recipe):
    crops = crop_sample()
    betas = show_new(recording, draw(190, 1), crops, recipe)
    assert betas.shape == (16, 3, 80)
    # Three noisy trials of one picture lie closer to its noiseless response than to those of the others.
    responses = recording.subject.respond(crops)
    own = np.corrcoef(betas.mean(1), responses)[:16, 16:]
    assert np.mean(own.argmax(1) == np.arange(16)) > 0.5
    np.testing.assert_array_equal(betas, show_new(recording, draw(190, 1), crops, recipe))


def test_the_sample_of_pictures_kept_aside_is_spread_over_them(recording):
    rows = choose_sample(recording)
    assert (len(set(rows.tolist())), rows[0], rows[-1]) == (16, 0, 19)


def test_trials_carry_the_names_of_their_pictures_and_are_called_simulated():
    crops = crop_sample()
    values = np.arange(16 * 3 * 2, dtype=np.float32).reshape(16, 3, 2)
    betas = name_trials(values, crops)
    assert betas.simulated
    assert betas.subject.startswith("simulated")
    for row, name in enumerate(crops.ids):
        np.testing.assert_array_equal(betas.values[betas.stimulus_ids == name], values[row])
