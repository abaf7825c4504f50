"""What a decoder of a simulated subject is a fraction of: the oracle told by hand, at a size where it can be."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from voxelight.models.errors import BadInput
from voxelight.models.values import Stimuli
from voxelight.neuro.simulation import (
    DesignOptions,
    StimuliSet,
    SubjectOptions,
    features_by_id,
    find_trial_noise,
    make_subject,
    plan_trials,
    simulate,
)
from voxelight.neuro.training.check import HeldOutScore
from voxelight.neuro.training.oracle import add_oracle, score_oracle
from voxelight.neuro.training.recorded import SeenTrials, prepare_subject


@pytest.fixture(scope="module")
def matched():
    """A matched subject of 8 voxels, whose noise is known to the last number, and its held-out trials."""
    rng = np.random.default_rng(0)
    ids = np.array([f"p{number:02}" for number in range(40)])
    pictures = StimuliSet(Stimuli(rng.uniform(size=(40, 16, 16, 3)).astype(np.float32), ids))
    encoder = features_by_id("tokens", rng.normal(size=(40, 5)), ids)
    subject = make_subject(1, pictures, SubjectOptions(kind="matched", voxels=8), encoder)
    design = DesignOptions(pictures=40, shared=12, repeats=3, trials=60, runs=2)
    betas = simulate(subject, pictures, plan_trials(40, 1, 0, design))
    seen = SeenTrials(betas, tuple(betas.stimulus_ids.tolist()))
    marked = betas.labels["shared"] == "1"
    held_out = frozenset(betas.stimulus_ids[marked].tolist())
    return subject, pictures, prepare_subject(seen, held_out, "as-stored")


def test_the_oracle_is_the_gaussian_likelihood_of_scipy(matched):
    subject, pictures, prepared = matched
    place = {name: row for row, name in enumerate(pictures.ids.tolist())}
    stimuli = pictures.read(np.array([place[name] for name in prepared.test]))
    found = score_oracle(subject, stimuli, prepared)
    noise = find_trial_noise(subject)
    covariance = (np.diag(noise.variance) + noise.loadings @ noise.loadings.T) / 3
    responses = subject.respond(stimuli)
    means = np.stack([prepared.training.voxels[rows].mean(0) for rows in prepared.test.values()])
    logs = np.array([[multivariate_normal.logpdf(y, r, covariance) for r in responses] for y in means])
    assert found["top_1"] == pytest.approx((logs.argmax(1) == np.arange(12)).mean())
    assert found["two_way"] > 0.8
    with pytest.raises(BadInput, match="each once"):
        score_oracle(subject, pictures.read(np.arange(3)), prepared)


def test_scores_stand_as_a_fraction_of_it_and_say_which_rule_it_is(matched):
    subject, _, _ = matched
    score = HeldOutScore("two_way_tokens", 0.75, 0.6, 0.9, {"null_mean": 0.5})
    pooled = HeldOutScore("retrieval_image_of_brain", 0.2, 0.1, 0.3, {"null_mean": 0.1, "draws": 30})
    add_oracle((score, pooled), {"top_1": 0.9, "two_way": 1.0}, subject)
    assert score.detail["fraction_of_oracle"] == pytest.approx(0.5)
    assert "Bayes-optimal" in score.detail["oracle_by"]
    assert "oracle" not in pooled.detail
