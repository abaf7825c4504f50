"""Betas of a few pictures that come along with the profile, so that it can be shown where its own pictures are not."""

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.simulation import simulate_session
from voxelight.neuro.simulation.streams import find_stream
from voxelight.neuro.simulation.subject import BATCH
from voxelight.neuro.tiny.pictures import Pictures
from voxelight.neuro.tiny.recipe import TinyRecipe
from voxelight.neuro.tiny.subjects import Recording
from voxelight.neuro.training.standardise import standardise_voxels

PICTURES, REPEATS = 16, 3
SUBJECT = "simulated-mismatched-01"
_SIDE, _CROPS = 64, 2


def crop_sample() -> Stimuli:
    """Return crops of photographs that scikit-image ships: pictures of another source than the profile's."""
    # Training, which needs no photographs, does without scikit-image.
    from voxelight.neuro.simulate import SimulationOptions, crop_photographs

    stimuli, _ = crop_photographs(SimulationOptions(side=_SIDE, crops=_CROPS), np.random.default_rng(0))
    return stimuli.select(stimuli.ids[:PICTURES])


def choose_sample(recording: Recording) -> NDArray[np.intp]:
    """Return some of the pictures that were kept aside, evenly spaced and so of different classes: rows of `test`."""
    shown = len(recording.test)
    return np.linspace(0, shown - 1, min(PICTURES, shown)).round().astype(np.intp)


def show_new(recording: Recording, training: Pictures, stimuli: Stimuli, recipe: TinyRecipe) -> NDArray[np.float32]:
    """Simulate one session more, in which new pictures are shown among training pictures.

    Parameters
    ----------
    recording : of `record_subject`
    training : pictures to show among
    stimuli : the new ones, each shown three times
    recipe : its stage `subject` and seed

    Returns
    -------
    array (picture, repeat, voxel), standardised by the trials of training pictures
    """
    design, subject = recipe.subject.design, recording.subject
    random, new = find_stream(recipe.seed, "tiny", "new pictures"), np.repeat(np.arange(len(stimuli.ids)), REPEATS)
    known = training.take(random.choice(len(training), design.trials - len(new), replace=False))
    images = known.pixels.transpose(0, 2, 3, 1).astype(np.float32) / np.float32(255)
    ids = np.array(known.keys)
    batches = (slice(start, start + BATCH) for start in range(0, len(ids), BATCH))
    responses = [subject.respond(Stimuli(images[some], ids[some])) for some in batches]
    order = random.permutation(design.trials)
    signals = np.concatenate([*responses, subject.respond(stimuli)[new]])[order]
    runs = np.repeat(np.arange(design.runs), [len(run) for run in np.array_split(order, design.runs)])
    values = simulate_session(subject, design.sessions + 1, signals, runs)
    scaled = standardise_voxels(values, np.flatnonzero(order < len(ids)))
    places = np.argsort(order)[len(ids) :].reshape(-1, REPEATS)
    found: NDArray[np.float32] = np.stack([scaled[rows] for rows in places])
    return found


def name_trials(betas: NDArray[np.float32], stimuli: Stimuli) -> Betas:
    """Return betas (picture, repeat, voxel) as trials of the simulated subject."""
    pictures, repeats, voxels = betas.shape
    return Betas(
        betas.reshape(-1, voxels),
        np.repeat(stimuli.ids, repeats),
        SUBJECT,
        "simulated nsdgeneral (mismatched)",
        {"repeat": np.tile(np.arange(1, repeats + 1), pictures).astype(str)},
        simulated=True,
    )
