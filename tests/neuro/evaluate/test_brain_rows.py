"""Regions of a simulated brain judge decoded pictures and choose among samples; a shuffled encoder can't."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.brain import Brain, Region, find_features, score_regions

TRAINED, HELD_OUT, REPEATS, SAMPLES = 30, 50, 2, 5
NAMES = np.array([f"p{number:03d}" for number in range(TRAINED + HELD_OUT)])
IDS = NAMES[TRAINED:]


@pytest.fixture(scope="module")
def simulated():
    """Simulated betas of three regions, each an own mixture of what is seen; samples are pictures under noise."""
    random = np.random.default_rng(0)
    coarse = random.random((len(NAMES), 4, 4, 3))
    pictures = np.kron(coarse, np.ones((1, 6, 6, 1)))
    seen = find_features(pictures)
    seen = (seen - seen.mean(0)) / (seen.std(0) + 1e-9)
    shown = random.permutation(np.repeat(np.arange(len(NAMES)), REPEATS))

    def measure(voxels):
        response = seen @ random.normal(size=(seen.shape[1], voxels)) / 12
        return response[shown] + 0.5 * random.normal(size=(len(shown), voxels))

    regions = tuple(
        Region(name, measure(count), np.arange(start, start + count))
        for name, start, count in (("own", 0, 40), ("early", 40, 40), ("late", 80, 40))
    )
    noise = np.kron(random.normal(size=(SAMPLES, HELD_OUT, 4, 4, 3)), np.ones((1, 1, 6, 6, 1)))
    spread = random.uniform(0.02, 0.6, size=(SAMPLES, HELD_OUT, 1, 1, 1))
    samples = (pictures[TRAINED:] + spread * noise).clip(0, 1)
    trained = frozenset(NAMES[:TRAINED].tolist())
    brain = Brain(regions, NAMES[shown], dict(zip(NAMES.tolist(), pictures, strict=True)), trained, np.arange(40))
    return brain, samples, pictures[TRAINED:]


def test_the_choice_raises_a_signal_that_it_did_not_see_and_a_shuffled_encoder_does_not(simulated):
    brain, samples, pictures = simulated
    found = score_regions(brain, samples, IDS)
    (best, chosen_by), items = found.best, np.arange(HELD_OUT)
    assert chosen_by == "brain_correlation_early", "the first region that shares no voxel with the decoder"
    late = found.compared.score()["brain_correlation_late"]
    gain = late[best.samples, items] - late.mean(0)
    assert scipy.stats.wilcoxon(gain, alternative="greater").pvalue < 1e-3
    errors = ((samples - pictures) ** 2).mean((2, 3, 4))
    assert errors[best.samples, items].mean() < errors.mean() * 0.7, "and finds better pictures"
    # The same with the betas of the choosing region dealt to other trials.
    region = brain.regions[1]
    mixed = replace(region, values=np.random.default_rng(5).permutation(region.values))
    again = score_regions(replace(brain, regions=(brain.regions[0], mixed, brain.regions[2])), samples, IDS)
    shuffled = late[again.best[0].samples, items] - late.mean(0)
    assert scipy.stats.wilcoxon(shuffled, alternative="greater").pvalue > 0.05
    assert again.compared.score()["brain_correlation_early"].mean() < 0.1
    assert gain.mean() > 3 * shuffled.mean()


def test_a_perfect_picture_lies_below_the_ceiling_and_above_what_was_decoded(simulated):
    brain, samples, pictures = simulated
    found = score_regions(brain, samples, IDS)
    for name, scores in found.compared.score().items():
        assert scores.mean() < found.seen[name].mean() < found.ceiling[name].mean() <= 1
    perfect = score_regions(brain, pictures[None], IDS)
    for name, scores in perfect.compared.score().items():
        np.testing.assert_allclose(scores, perfect.seen[name])
    assert perfect.best is None
    assert "One sample" in perfect.reason


def test_what_may_not_choose_says_why(simulated):
    brain, samples, _ = simulated
    alone = score_regions(replace(brain, regions=brain.regions[:1]), samples, IDS)
    assert alone.best is None
    assert "shares voxels" in alone.reason
    assert "40 of them the decoder's" in alone.facts[0].note
    unknown = score_regions(replace(brain, trained_on=None), samples, IDS)
    assert "not known" in unknown.reason
    with pytest.raises(BadInput, match="10 or more"):
        score_regions(replace(brain, trained_on=frozenset(NAMES[5:].tolist())), samples, IDS)
    with pytest.raises(BadInput, match="3 or more"):
        score_regions(replace(brain, regions=(Region("thin", brain.regions[0].values[:, :2], np.arange(2)),)), samples,
                      IDS)  # fmt: skip
