"""A simulated subject that saw pictures of the source, and the decoder of its betas."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.simulation import (
    TEXTURE,
    DesignOptions,
    Encoder,
    SimulatedSubject,
    StimuliSet,
    SubjectOptions,
    Trials,
    find_trial_noise,
    identify,
    make_subject,
    plan_trials,
    response_likelihood,
    simulate,
)
from voxelight.neuro.simulation.streams import find_stream
from voxelight.neuro.tiny.descent import Sitting
from voxelight.neuro.tiny.pictures import Pictures
from voxelight.neuro.tiny.recipe import TinyRecipe
from voxelight.neuro.train import Fitted, fit_decoder
from voxelight.neuro.training.batches import TrainingSubject
from voxelight.neuro.training.samples import TrainingData
from voxelight.neuro.training.standardise import standardise_voxels
from voxelight.neuro.training.start import build_decoder
from voxelight.neuro.training.targets import CachedTargets

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Recording:
    """What a simulated subject saw and how it answered.

    Parameters
    ----------
    subject : SimulatedSubject
    betas : Betas (trial, voxel), standardised in each session by the training trials
    train : array (row,), trials of pictures that networks were trained on
    test : array (picture, repeat), trials of each picture that was kept aside
    """

    subject: SimulatedSubject
    betas: Betas
    train: Rows
    test: Rows

    @property
    def shown(self) -> list[str]:
        """Ids of the pictures of `test`, in its order."""
        return [str(self.betas.stimulus_ids[row]) for row in self.test[:, 0]]


class TokenTable:
    """Tokens of pictures in memory, as `CachedTargets` reads them.

    Parameters
    ----------
    keys : of the pictures
    values : tensor (picture, token, dim)
    """

    def __init__(self, keys: Sequence[str], values: Tensor) -> None:
        self._rows = {key: row for row, key in enumerate(keys)}
        self._values = values.half().cpu().numpy()

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that are not there."""
        return [key for key in dict.fromkeys(keys) if key not in self._rows]

    def read(self, keys: Sequence[str]) -> NDArray[Any]:
        """Return the tokens of pictures, array (key, token, dim)."""
        found: NDArray[Any] = self._values[[self._rows[key] for key in keys]]
        return found

    def write(self, keys: Sequence[str], values: NDArray[Any]) -> None:
        """Refuse: the table is whole from the beginning."""
        raise NotImplementedError(f"{len(keys)} pictures for a table that is whole")


def plan_subject(training: int, held_out: int, number: int, seed: int, design: DesignOptions) -> Trials:
    """Plan the trials so that shared pictures are all kept aside, and a subject's own are all trained on.

    Parameters
    ----------
    training, held_out : pictures of both kinds, which the rows of the plan count in this order
    number : of the subject
    seed : of the simulation
    design : what is shown how often; refused where it asks for more pictures of a kind than there are

    Raises
    ------
    BadInput
        There are too few pictures.
    """
    plan = plan_trials(training + held_out, number, seed, design)
    pictures = np.empty_like(plan.pictures)
    for shared, first, count in ((False, 0, training), (True, training, held_out)):
        rows = plan.shared == shared
        _, kind = np.unique(plan.pictures[rows], return_inverse=True)
        # The same draw for every subject, so that all see the same shared pictures.
        order = find_stream(seed, "tiny", "shared" if shared else f"own {number}").permutation(count)
        pictures[rows] = first + order[kind]
    return Trials(pictures, plan.sessions, plan.runs, plan.repeats, plan.shared)


def record_subject(
    training: Pictures, held_out: Pictures, recipe: TinyRecipe, encoder: Encoder = TEXTURE, companion: int = 0
) -> Recording:
    """Simulate a mismatched subject with noise like NSD's.

    Parameters
    ----------
    training, held_out : of `split_pictures`
    recipe : its stage `subject` and seed
    encoder : what late voxels answer to
    companion : so many subjects further on
    """
    stage, number = recipe.subject, recipe.subject.number + companion
    plan = plan_subject(len(training), len(held_out), number, recipe.seed, stage.design)
    pixels = np.concatenate([training.pixels, held_out.pixels]).transpose(0, 2, 3, 1)
    seen, rows = np.unique(plan.pictures, return_inverse=True)
    ids = np.array([*training.keys, *held_out.keys])[seen]
    pictures = StimuliSet(Stimuli(pixels[seen].astype(np.float32) / np.float32(255), ids))
    own = Trials(rows.astype(np.intp), plan.sessions, plan.runs, plan.repeats, plan.shared)
    subject = make_subject(number, pictures, SubjectOptions(voxels=stage.voxels, seed=recipe.seed), encoder)
    raw = simulate(subject, pictures, own)
    train = np.flatnonzero(~own.shared)
    scaled = standardise_voxels(raw.values, train, raw.labels["session"].tolist())[np.arange(len(raw.values))]
    betas = Betas(scaled, raw.stimulus_ids, raw.subject, raw.roi, raw.labels, simulated=True)
    trials = [np.flatnonzero(own.pictures == picture) for picture in np.unique(own.pictures[own.shared])]
    return Recording(subject, betas, train, np.stack(trials))


def fit_subject(
    recordings: Sequence[Recording],
    keys: Sequence[str],
    tokens: Tensor,
    recipe: TinyRecipe,
    device: str,
    sitting: Sitting,
) -> Fitted:
    """Fit a MindEye2 decoder with its prior to recordings; the first is that of the subject, whose voxels it keeps.

    Parameters
    ----------
    recordings : of `record_subject`; those of companions serve what all subjects share
    keys : of all training pictures
    tokens : tensor (picture, token, dim), theirs
    recipe : its stage `subject` and seed
    device : to train on
    sitting : checkpoints, curve and interruption
    """
    decoder = recipe.subject.find_decoder(recipe.seed)
    subjects = [
        TrainingSubject(
            recording.betas.subject,
            recording.betas.values,
            tuple(recording.betas.stimulus_ids.tolist()),
            tuple(recording.betas.labels["session"].tolist()),
            recording.train,
        )
        for recording in recordings
    ]
    shown = frozenset(key for recording in recordings for key in recording.shown)
    data = TrainingData(tuple(subjects), CachedTargets({"tokens": TokenTable(keys, tokens)}), shown)
    network = build_decoder(decoder, [subject.voxels.shape[1] for subject in subjects])
    fitted = fit_decoder(network, data, decoder, device, sitting.hooks, sitting.options)
    return replace(fitted, weights={name: each for name, each in fitted.weights.items() if _is_kept(name)})


def _is_kept(name: str) -> bool:
    return not name.startswith("ridge.") or name.startswith("ridge.linears.0.")


def score_oracle(recording: Recording, images: NDArray[np.float32], pool: int) -> dict[str, float]:
    """Identify shown pictures by their true responses under the true noise: the best that repeats allow.

    Parameters
    ----------
    recording : of `record_subject`
    images : array (picture, row, col, 3) in [0, 1], those of `recording.shown`
    pool : pictures, the first ones, that are told from each other

    Returns
    -------
    ``top_1`` and ``two_way``, shares
    """
    shown = StimuliSet(Stimuli(images[:pool], np.array(recording.shown[:pool])))
    responses = recording.subject.respond(shown.read(np.arange(pool)))
    averages = recording.betas.values[recording.test[:pool]].mean(axis=1)
    noise = find_trial_noise(recording.subject)
    return identify(response_likelihood(noise, averages, responses, recording.test.shape[1]), np.arange(pool))


def find_trials(recording: Recording) -> list[NDArray[np.float32]]:
    """Return the betas of each picture that was kept aside, array (repeat, voxel) each."""
    return [np.asarray(recording.betas.values[rows], np.float32) for rows in recording.test]


def shuffle_trials(trials: Sequence[NDArray[np.float32]], seed: int) -> list[NDArray[np.float32]]:
    """Return the trials of each picture in another one's place, none in its own: the control of what betas give."""
    shift = 1 + find_stream(seed, "tiny", "shuffle").integers(len(trials) - 1)
    return [trials[(row + int(shift)) % len(trials)] for row in range(len(trials))]
