"""Simulated subjects: an encoding model of known make, its trials, and the best decoder of them. Imports no torch."""

from voxelight.neuro.simulation.ceilings import measure_ncsnr, noise_ceiling, read_nsd
from voxelight.neuro.simulation.design import DesignOptions, Trials, plan_trials
from voxelight.neuro.simulation.late import Encoder, features_by_id, refuse_circular, tokens_by_id
from voxelight.neuro.simulation.noise import NoiseOptions
from voxelight.neuro.simulation.oracle import (
    LinearGaussian,
    TrialNoise,
    fraction_of_oracle,
    identify,
    log_likelihood,
    posterior_mean,
    response_likelihood,
)
from voxelight.neuro.simulation.pictures import PictureSet, StimuliSet, collect_batches
from voxelight.neuro.simulation.session import simulate, simulate_session
from voxelight.neuro.simulation.subject import (
    KINDS,
    SimulatedSubject,
    SubjectOptions,
    find_trial_noise,
    make_oracle,
    make_subject,
)
from voxelight.neuro.simulation.texture import TEXTURE

__all__ = [
    "KINDS",
    "TEXTURE",
    "DesignOptions",
    "Encoder",
    "LinearGaussian",
    "NoiseOptions",
    "PictureSet",
    "SimulatedSubject",
    "StimuliSet",
    "SubjectOptions",
    "TrialNoise",
    "Trials",
    "collect_batches",
    "features_by_id",
    "find_trial_noise",
    "fraction_of_oracle",
    "identify",
    "log_likelihood",
    "make_oracle",
    "make_subject",
    "measure_ncsnr",
    "noise_ceiling",
    "plan_trials",
    "posterior_mean",
    "read_nsd",
    "refuse_circular",
    "response_likelihood",
    "simulate",
    "simulate_session",
    "tokens_by_id",
]
