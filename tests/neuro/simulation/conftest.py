"""Real photographs, and subjects who looked at them."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from voxelight.models.values import ClipTokens
from voxelight.neuro.simulate import SimulationOptions, crop_photographs
from voxelight.neuro.simulation import (
    DesignOptions,
    StimuliSet,
    SubjectOptions,
    make_subject,
    plan_trials,
    simulate,
    tokens_by_id,
)

DESIGN = DesignOptions(pictures=400, shared=100, trials=300, runs=5)


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """Threads that wait for each other on a busy machine take ten times as long for small products."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def photographs() -> StimuliSet:
    """Crops of the photographs that scikit-image ships, 480 of them."""
    stimuli, _ = crop_photographs(SimulationOptions(side=64, crops=40), np.random.default_rng(0))
    return StimuliSet(stimuli)


@pytest.fixture(scope="session")
def plan(photographs):
    return plan_trials(len(photographs.ids), 1, 0, DESIGN)


@pytest.fixture(scope="session")
def simulated(photographs, plan):
    """A mismatched subject and its betas."""
    subject = make_subject(1, photographs, SubjectOptions(voxels=600))
    return subject, simulate(subject, photographs, plan)


@pytest.fixture(scope="session")
def tokens(photographs):
    """Tokens of a small network: 6 of 5 dimensions, a random code of each picture."""
    pixels = photographs.read(np.arange(len(photographs.ids))).images[:, ::4, ::4].reshape(len(photographs.ids), -1)
    code = np.random.default_rng(7).normal(size=(pixels.shape[1], 30)) / np.sqrt(pixels.shape[1])
    values = np.tanh((pixels - pixels.mean(0)) @ code).reshape(-1, 6, 5)
    return ClipTokens(values.astype(np.float32), "test-tokens")


@pytest.fixture(scope="session")
def matched(photographs, plan, tokens):
    """A matched subject and its betas."""
    encoder = tokens_by_id(tokens, photographs.ids)
    subject = make_subject(1, photographs, SubjectOptions(kind="matched", voxels=60), encoder)
    return subject, simulate(subject, photographs, plan)
