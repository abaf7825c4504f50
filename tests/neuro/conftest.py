"""Betas that a linear code made, and the real ones."""

import numpy as np
import pytest

from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.recipes import find_recipe
from voxelight.storage.formats.betas import read_betas_mat


@pytest.fixture(scope="session")
def miyawaki(shared_data):
    """V1 betas and the figures and letters that were seen."""
    return read_betas_mat(shared_data / "fmri_miyawaki2008" / "miyawaki_conditions_2to5_combined_sharp.mat")


@pytest.fixture
def make_subject():
    """Make a subject whose betas are a noisy linear image of random pictures."""

    def make(n_stimuli=9, repeats=3, n_voxels=40, noise=0.5, channels=1, seed=0):
        random = np.random.default_rng(seed)
        images = random.uniform(size=(n_stimuli, 4, 5, channels)).astype(np.float32)
        ids = np.array([f"picture-{number}" for number in range(n_stimuli)])
        code = random.normal(size=(images[0].size, n_voxels))
        shown = np.concatenate([random.permutation(n_stimuli) for _ in range(repeats)])
        values = images.reshape(n_stimuli, -1)[shown] @ code
        values = values + noise * random.normal(size=values.shape) + 3
        labels = {
            "session": np.repeat([f"ses-{number}" for number in range(repeats)], n_stimuli),
            "run": np.array([f"run-{trial % 4}" for trial in range(len(shown))]),
            "group": np.array([f"group-{number // 3}" for number in shown]),
        }
        return Betas(values.astype(np.float32), ids[shown], "01", "V1", labels), Stimuli(images, ids)

    return make


@pytest.fixture
def make_recipe():
    """A small recipe, with changes."""

    def make(**changes):
        quick = {"permutations": 19, "bootstrap_draws": 200, "decoder_options": {"alphas": [0.1, 3.0, 100.0, 3000.0]}}
        return find_recipe("miyawaki-ridge").model_copy(update=quick | changes)

    return make
