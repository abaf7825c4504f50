"""What the best decoder of a simulated subject would reach, and which fraction of it a trained one does."""

import numpy as np

from voxelight.models.errors import BadInput
from voxelight.models.values import Stimuli
from voxelight.neuro.simulation import SimulatedSubject, find_trial_noise, fraction_of_oracle, identify
from voxelight.neuro.simulation.oracle import response_likelihood
from voxelight.neuro.training.check import HeldOutScore
from voxelight.neuro.training.recorded import PreparedSubject

_EXACT = "identification by the Gaussian likelihood under the true weights and noise (Bayes-optimal)"
_NEAR = "identification by the Gaussian likelihood under the true responses; drift and neighbouring trials are noise"
_KEYS = {"two_way_tokens": "two_way", "retrieval_image_of_brain": "top_1"}


def score_oracle(subject: SimulatedSubject, stimuli: Stimuli, prepared: PreparedSubject) -> dict[str, float]:
    """Identify held-out pictures by what their trials should have been.

    Parameters
    ----------
    subject : the generator
    stimuli : the held-out pictures, in the order of `prepared.test`
    prepared : trials, standardised as they are decoded

    Returns
    -------
    ``top_1`` and ``two_way``, shares

    Raises
    ------
    BadInput
        The numbers of pictures differ.
    """
    trials = list(prepared.test.values())
    if len(stimuli.ids) != len(trials):
        raise BadInput(f"{len(stimuli.ids)} pictures of {len(trials)} held-out ones", "each once", "Hand in all.")
    responses, noise = subject.respond(stimuli), find_trial_noise(subject)
    likelihood = np.empty((len(trials), len(trials)))
    for repeats in sorted({len(rows) for rows in trials}):
        places = [place for place, rows in enumerate(trials) if len(rows) == repeats]
        means = np.stack([prepared.training.read(trials[place]).mean(0) for place in places])
        likelihood[places] = response_likelihood(noise, means, responses, repeats)
    return identify(likelihood, np.arange(len(trials)))


def add_oracle(scores: tuple[HeldOutScore, ...], oracle: dict[str, float], subject: SimulatedSubject) -> None:
    """Write beside each score that has one what the oracle reaches, and the fraction of it from the null on.

    Parameters
    ----------
    scores : of the subject; a score over pools of pictures has no oracle here, which takes all at once
    oracle : of `score_oracle`
    subject : the generator
    """
    exact = subject.early is None and subject.options.used_noise.linear_gaussian
    for score in scores:
        if score.name not in _KEYS or score.detail.get("draws", 1) != 1:
            continue
        best, null = oracle[_KEYS[score.name]], score.detail["null_mean"]
        score.detail.update(oracle=best, oracle_by=_EXACT if exact else _NEAR)
        if best > null:
            score.detail["fraction_of_oracle"] = fraction_of_oracle(score.value, null, best)
