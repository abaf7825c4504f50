"""The trials of a simulated subject: responses and noise, session by session."""

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Betas
from voxelight.neuro.simulation.design import Trials
from voxelight.neuro.simulation.noise import add_neighbours, draw_drift
from voxelight.neuro.simulation.pictures import PictureSet, Rows
from voxelight.neuro.simulation.streams import find_stream
from voxelight.neuro.simulation.subject import BATCH, SimulatedSubject


def simulate_session(
    subject: SimulatedSubject, session: int, signals: NDArray[np.float32], runs: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the betas of one session; they depend on no other.

    A trial is g (s + neighbours + noise in common + drift + noise of its own) + b, with the gain g and the offsets b of
    the session. Without gain and offset a voxel has variance 1, of which the signal has ncsnr^2 / (1 + ncsnr^2).

    Parameters
    ----------
    subject : SimulatedSubject
    session : number, from 1
    signals : array (trial, voxel), from `SimulatedSubject.respond`, in order of time
    runs : array (trial,)

    Returns
    -------
    array (trial, voxel), float32
    """
    noise = subject.options.used_noise
    random = find_stream(subject.options.seed, "subject", subject.number, "session", session)
    shape, deviation = signals.shape, subject.noise_std
    gain = np.exp(random.normal(scale=noise.gain))
    offset = np.float32(noise.offset) * random.standard_normal(shape[1], dtype=np.float32)
    values = random.standard_normal(shape, dtype=np.float32) * np.sqrt(subject.own_variance).astype(np.float32)
    common = random.standard_normal((shape[0], noise.rank), dtype=np.float32) @ subject.loadings.T
    values += common * (deviation * np.sqrt(noise.correlated)).astype(np.float32)
    if noise.drift:
        values += draw_drift(shape[0], shape[1], random) * (deviation * np.sqrt(noise.drift)).astype(np.float32)
    values += add_neighbours(signals, runs, noise.overlap)
    measured: NDArray[np.float32] = values * np.float32(gain) + offset
    return measured


def simulate(subject: SimulatedSubject, pictures: PictureSet, plan: Trials, sessions: int | None = None) -> Betas:
    """Simulate the first sessions of a plan in memory; larger ones go to disk, session by session.

    Parameters
    ----------
    subject : SimulatedSubject
    pictures : the set that the plan was made for
    plan : all trials, from `plan_trials`
    sessions : how many; all where not given

    Returns
    -------
    Betas (trial, voxel), `simulated`, with the labels `session`, `run`, `repeat` and `shared`
    """
    trials = plan.select(np.flatnonzero(plan.sessions <= (sessions or plan.sessions[-1])))
    signals = np.concatenate([subject.respond(pictures.read(rows)) for rows in batch_pictures(plan, trials)])
    place = plan.places(trials)
    values = np.empty((len(place), signals.shape[1]), np.float32)
    for session in range(1, int(trials.sessions[-1]) + 1):
        rows = np.flatnonzero(trials.sessions == session)
        values[rows] = simulate_session(subject, session, signals[place[rows]], trials.runs[rows])
    ids = pictures.ids[trials.pictures]
    return Betas(values, ids, subject.name, subject.roi, label_trials(trials), simulated=True)


def batch_pictures(plan: Trials, trials: Trials) -> list[Rows]:
    """Return the pictures of some trials in batches, in the order in which the plan first shows them.

    A batch is whole even where the trials need a part of it, so that it is the same batch however many are simulated.
    """
    last = int(plan.places(trials).max())
    order = plan.first_shown()
    return [order[first : first + BATCH] for first in range(0, last + 1, BATCH)]


def label_trials(trials: Trials) -> dict[str, NDArray[np.str_]]:
    """Return what is known of each trial as labels of `Betas`; a run is named together with its session."""
    sessions = np.array([f"ses-{number:02d}" for number in trials.sessions.tolist()])
    return {
        "session": sessions,
        "run": np.array(
            [f"{name}-run-{run:02d}" for name, run in zip(sessions.tolist(), trials.runs.tolist(), strict=True)]
        ),
        "repeat": trials.repeats.astype(str),
        "shared": trials.shared.astype(int).astype(str),
    }
