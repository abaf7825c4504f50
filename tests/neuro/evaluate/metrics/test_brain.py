"""Brain correlation with an encoder whose answers are known."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.evaluate.metrics.brain import BrainEncoder, average_repeats, score_brain

N_VOXELS = 30
ROIS = {"V1": np.arange(N_VOXELS) < 12, "higher_vis": np.arange(N_VOXELS) >= 12}


@pytest.fixture(scope="module")
def code(photographs):
    return np.random.default_rng(0).normal(size=(photographs[0, ::16, ::16].size, N_VOXELS))


@pytest.fixture(scope="module")
def encoder(code):
    def predict(pictures):
        return pictures[:, ::16, ::16].reshape(len(pictures), -1) @ code

    return BrainEncoder("a linear code", predict, "abc", "every 16th pixel")


@pytest.fixture(scope="module")
def betas(photographs, encoder):
    ids = np.array([f"picture-{number}" for number in range(len(photographs))])
    shown = np.random.default_rng(1).permutation(np.tile(np.arange(len(ids)), 3))
    values = encoder.predict(photographs)[shown]
    values = values + np.random.default_rng(2).normal(0, values.std(), values.shape)
    return Betas(values.astype(np.float32), ids[shown], "01", "nsdgeneral", {})


def test_it_is_the_correlation_over_the_voxels_of_a_roi_with_averaged_repeats(photographs, encoder, betas):
    ids = np.array([f"picture-{number}" for number in (3, 0, 7)])
    found = score_brain(photographs[[3, 0, 7]], ids, betas, encoder, ROIS)
    assert list(found) == ["V1", "higher_vis"]
    for name, mask in ROIS.items():
        for place, (row, stimulus) in enumerate(zip((3, 0, 7), ids, strict=True)):
            measured = betas.values[betas.stimulus_ids == stimulus].astype(np.float64).mean(0)
            expected = pearsonr(encoder.predict(photographs[[row]])[0][mask], measured[mask]).statistic
            assert found[name].scores[place] == pytest.approx(expected, abs=1e-6)
    assert found["V1"].conditions.network == "a linear code"
    assert "12 voxels" in found["V1"].conditions.preprocessing


def test_the_seen_pictures_evoke_what_was_measured_better_than_others(photographs, encoder, betas):
    ids = np.array([f"picture-{number}" for number in range(len(photographs))])
    own = score_brain(photographs, ids, betas, encoder, ROIS)["V1"].value
    others = score_brain(np.roll(photographs, 1, axis=0), ids, betas, encoder, ROIS)["V1"].value
    assert own > others


def test_repeats_are_averaged_in_the_order_asked_for(betas):
    found = average_repeats(betas, np.array(["picture-2", "picture-1"]))
    assert np.allclose(found[1], betas.values[betas.stimulus_ids == "picture-1"].mean(0), atol=1e-4)


def test_what_does_not_belong_together_is_refused(photographs, encoder, betas):
    ids = np.array(["picture-0", "picture-1"])
    with pytest.raises(BadInput, match="picture-99"):
        score_brain(photographs[:2], np.array(["picture-0", "picture-99"]), betas, encoder, ROIS)
    with pytest.raises(BadInput, match="predictions"):
        score_brain(photographs[:3], ids, betas, encoder, ROIS)
    for mask in (np.zeros(N_VOXELS, bool), np.ones(7, bool), np.ones(N_VOXELS)):
        with pytest.raises(BadInput, match="ROI"):
            score_brain(photographs[:2], ids, betas, encoder, {"V1": mask})
