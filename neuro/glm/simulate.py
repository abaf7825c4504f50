"""Simulated BOLD of known betas and responses: what an estimation should find is known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.signal import lfilter

from voxelight.neuro.glm.design import Events, Run, Timing, design_trials
from voxelight.neuro.glm.hrf import Hrf

Floats = NDArray[np.floating[Any]]

_BASELINE = 1000.0


class BoldOptions(BaseModel):
    """Size and difficulty of simulated BOLD; all of it is assumed.

    Parameters
    ----------
    voxels : voxels, of which a share answers
    answering : that share
    runs, trials : trials of each run
    stimuli : distinct stimuli, each shown equally often, in an order drawn by chance
    repetition_s, onset_s, duration_s : repetition time, from onset to onset, of a stimulus; s
    jitter_s : onsets lie up to this much off, s
    blanks : share of the trials in which nothing was shown, beside those
    beta : standard deviation of the betas of a voxel that answers, in percent of the mean signal
    beta_mean : mean of them
    noise : standard deviation of the noise of a volume, percent
    autoregression : coefficient of its first order
    shared : share of the noise's variance that voxels have in common
    rank : dimensions of that
    drift : height of a slow drift, percent
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    voxels: PositiveInt = 400
    answering: float = Field(default=0.5, gt=0, le=1)
    runs: PositiveInt = 6
    trials: PositiveInt = 60
    stimuli: PositiveInt = 120
    repetition_s: PositiveFloat = 1.6
    onset_s: PositiveFloat = 4.0
    duration_s: PositiveFloat = 3.0
    jitter_s: NonNegativeFloat = 0.0
    blanks: float = Field(default=0.15, ge=0, lt=1)
    beta: NonNegativeFloat = 1.0
    beta_mean: float = 1.0
    noise: NonNegativeFloat = 1.5
    autoregression: float = Field(default=0.4, ge=0, lt=1)
    shared: float = Field(default=0.4, ge=0, lt=1)
    rank: PositiveInt = 4
    drift: NonNegativeFloat = 1.0


@dataclass(frozen=True, eq=False)
class SimulatedBold:
    """Runs and what they were made of.

    Parameters
    ----------
    runs : tuple of Run
    betas : array (trial, voxel), percent of the mean signal, trials of all runs one after the other
    responses : array (voxel,), of Hrf
    answers : array (voxel,), bool
    """

    runs: tuple[Run, ...]
    betas: Floats
    responses: NDArray[np.object_]
    answers: NDArray[np.bool_]


def simulate_bold(seed: int = 0, options: BoldOptions | None = None, of_stimuli: Floats | None = None) -> SimulatedBold:
    """Simulate a session: betas of each stimulus and voxel, responses that differ from voxel to voxel, noise.

    Responses peak from 3.5 to 7.5 s and are drawn between those of the library, not from it. The noise is an
    autoregression of first order, in part shared by all voxels through a few loadings.

    Parameters
    ----------
    seed : of every draw
    options : BoldOptions
    of_stimuli : array (stimulus, voxel), betas in percent; drawn where not given

    Returns
    -------
    SimulatedBold
    """
    options = options or BoldOptions()
    random = np.random.default_rng(seed)
    answers = np.arange(options.voxels) < round(options.answering * options.voxels)
    kinds = [Hrf(peak, peak + 10, random.uniform(0.9, 1.8)) for peak in random.uniform(3.5, 7.5, 25)]
    drawn = random.integers(len(kinds), size=options.voxels)
    responses = np.array([kinds[kind] for kind in drawn], dtype=object)
    drawn_betas = options.beta_mean + options.beta * random.standard_normal((options.stimuli, options.voxels))
    of_stimuli = drawn_betas if of_stimuli is None else np.array(of_stimuli, dtype=np.float64)
    of_stimuli[:, ~answers] = 0
    shown = random.permutation(np.resize(np.arange(options.stimuli), options.runs * options.trials))
    loadings = random.standard_normal((options.rank, options.voxels)) / np.sqrt(options.rank)
    runs, betas = [], []
    for number, stimuli in enumerate(np.split(shown, options.runs), start=1):
        events = _draw_events(options, stimuli, random)
        volumes = int(np.ceil((events.onsets[-1] + 16) / options.repetition_s))
        timing = Timing(options.repetition_s, volumes, options.repetition_s / 2)
        signal = np.zeros((volumes, options.voxels))
        for kind, hrf in enumerate(kinds):
            of = drawn == kind
            signal[:, of] = design_trials(events, timing, hrf, options.duration_s) @ of_stimuli[stimuli][:, of]
        signal += _draw_noise(options, volumes, loadings, random)
        bold = (_BASELINE * (1 + signal / 100)).astype(np.float32)
        runs.append(Run(f"run-{number:02d}", bold, timing, events))
        betas.append(of_stimuli[stimuli])
    return SimulatedBold(tuple(runs), np.concatenate(betas), responses, answers)


def _draw_events(options: BoldOptions, stimuli: NDArray[np.intp], random: np.random.Generator) -> Events:
    jitter = random.uniform(0, options.jitter_s, len(stimuli)) if options.jitter_s else 0.0
    slots = len(stimuli) + round(options.blanks * len(stimuli))
    taken = np.sort(random.permutation(slots)[: len(stimuli)])
    onsets = 8.0 + options.onset_s * taken + jitter
    ids = np.array([f"stimulus-{number:04d}" for number in stimuli])
    return Events(onsets, np.full(len(stimuli), options.duration_s), ids)


def _draw_noise(options: BoldOptions, volumes: int, loadings: Floats, random: np.random.Generator) -> Floats:
    rho = options.autoregression
    scale = np.sqrt(1 - rho**2)  # so that the variance is 1

    def autoregress(columns: int) -> Floats:
        white = random.standard_normal((volumes + 50, columns))
        series: Floats = lfilter([scale], [1, -rho], white, axis=0)[50:]
        return series

    common, own = autoregress(options.rank) @ loadings, autoregress(options.voxels)
    noise = options.noise * (np.sqrt(options.shared) * common + np.sqrt(1 - options.shared) * own)
    slow = np.cos(np.pi * (np.arange(volumes) / volumes)[:, None] * random.integers(1, 3))
    return np.asarray(noise + options.drift * slow * random.standard_normal(options.voxels))
