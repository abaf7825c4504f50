"""Control rows: what the same metrics give without the brain, with another brain, and with a perfect one."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, ClipTokens
from voxelight.neuro.retrieve import find_cosine
from voxelight.neuro.splits import Labels

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.intp]

DECODED = "decoded"
CONTROLS = {
    "null": "whole stimuli permuted within session, and scored alike; its mean is measured, and need not be chance",
    "shuffled_betas": "betas of another stimulus through the same decoder and generator",
    "generator_ceiling": "true latents through the same generator: what a perfect decoder would reach",
    "nearest_training": "the training picture closest to what was decoded, by its tokens or, without any, by its betas",
    "constant_caption": "one sentence for every picture, the best of the training captions",
    "most_frequent_caption": "the caption that occurs most often in training",
}
BASELINES = {
    "training_mean": "the mean of the training pictures, whatever the betas are",
    "best_of_samples": "of several samples the one that a brain encoder chose, by the signal that the notes declare",
    "seen_picture": "the picture that was seen, through the same brain encoder",
    "noise_ceiling": "the largest correlation with betas that their noise leaves within reach, for display only",
}
OF_PICTURES = ("null", "shuffled_betas", "generator_ceiling", "nearest_training")
OF_CAPTIONS = (*OF_PICTURES, "constant_caption", "most_frequent_caption")


@dataclass(frozen=True, eq=False)
class Exchange:
    """Stimuli that may stand in for each other.

    Parameters
    ----------
    groups : array (stimulus,), number of the group inside which a stimulus may move
    within : what the groups are: ``session``, or ``first session`` where the repeats are spread over too many sessions
        for whole stimuli to be exchanged among their own
    fixed : share of the stimuli that are alone in their group and never move
    """

    groups: Places
    within: str
    fixed: float


def find_exchange(stimulus_ids: Labels, sessions: Labels, ids: Labels) -> Exchange:
    """Find which whole stimuli can be exchanged within session.

    Two stimuli are exchangeable where their trials lie in the same sessions. Where more than half of them would have
    no partner so, those of one first session are.

    Parameters
    ----------
    stimulus_ids, sessions : array (trial,)
    ids : array (stimulus,), the stimuli that are scored
    """
    shown: dict[str, list[str]] = {}
    for stimulus, session in zip(stimulus_ids.tolist(), sessions.tolist(), strict=True):
        shown.setdefault(stimulus, []).append(session)
    absent = [name for name in ids.tolist() if name not in shown]
    if absent:
        raise BadInput(f"no trial of {absent[0]}", "a trial of every stimulus that is scored", "Give all trials.")
    whole = _group(["\n".join(sorted(shown[name])) for name in ids.tolist()])
    first = _group([min(shown[name]) for name in ids.tolist()])
    groups, within = (whole, "session") if _fixed(whole) <= 0.5 else (first, "first session")
    return Exchange(groups, within, _fixed(groups))


def draw_exchanges(exchange: Exchange, n_draws: int, seed: int) -> Places:
    """Draw which stimulus stands in for which, each group by itself: array (draw, stimulus) of row numbers.

    Raises
    ------
    BadInput
        Nothing can be exchanged.
    """
    if exchange.fixed == 1:
        raise BadInput(
            "no two stimuli that can be exchanged within session",
            "some",
            "Score more stimuli of a session, or report without a null.",
        )
    random = np.random.default_rng(seed)
    draws = np.empty((n_draws, len(exchange.groups)), dtype=np.intp)
    members = [np.flatnonzero(exchange.groups == group) for group in np.unique(exchange.groups)]
    for draw in draws:
        for rows in members:
            draw[rows] = random.permutation(rows)
    return draws


def draw_null(score: Callable[[Places], Floats], exchanges: Places) -> NDArray[np.float64]:
    """Score every permutation of what is paired with what.

    Parameters
    ----------
    score : array (picture,) of the column that counts as seen -> array (picture,)
    exchanges : array (draw, picture), from `draw_exchanges`

    Returns
    -------
    array (draw,), means over pictures
    """
    return np.array([float(score(order).mean()) for order in exchanges])


def derange(count: int, seed: int) -> Places:
    """Return a random order in which nothing stays in its place: array (count,).

    Raises
    ------
    BadInput
        There are fewer than two.
    """
    if count < 2:
        raise BadInput(f"{count} stimuli", "two or more", "Nothing can be exchanged.")
    random = np.random.default_rng(seed)
    while True:  # about e tries
        order = random.permutation(count)
        if not (order == np.arange(count)).any():
            return order


def shuffle_betas(betas: Betas, seed: int) -> Betas:
    """Give every stimulus the name of another, all its trials together, for the row `shuffled_betas`.

    Parameters
    ----------
    betas : Betas (trial, voxel), held-out trials, normalised
    seed : of the exchange

    Returns
    -------
    Betas, the same values; no stimulus keeps its own
    """
    names, place = np.unique(betas.stimulus_ids, return_inverse=True)
    given = names[derange(len(names), seed)][place]
    return Betas(betas.values, given, betas.subject, betas.roi, betas.labels, betas.simulated)


def pick_nearest(predicted: ClipTokens, train: ClipTokens) -> Places:
    """Return the training picture whose tokens are closest to those that were decoded, array (item,)."""
    nearest: Places = find_cosine(predicted, train).argmax(1)
    return nearest


def most_frequent_caption(captions: Sequence[str]) -> str:
    """Return the caption that occurs most often in training, the first in the alphabet among equals.

    Raises
    ------
    BadInput
        There is none.
    """
    if not captions:
        raise BadInput("no training caption", "one or more", "Give the captions of the training pictures.")
    counts = Counter(captions)
    return min(counts, key=lambda caption: (-counts[caption], caption))


def constant_caption(candidates: Sequence[str], score: Callable[[str], float]) -> str:
    """Return the sentence that scores best for all training pictures at once, chosen without any held-out one.

    Parameters
    ----------
    candidates : training captions, or some of them
    score : sentence -> its score against the references of the training pictures
    """
    if not candidates:
        raise BadInput("no candidate", "one or more", "Give captions of training pictures.")
    distinct = sorted(set(candidates))
    return distinct[int(np.argmax([score(caption) for caption in distinct]))]


def _group(names: list[str]) -> Places:
    places: Places = np.unique(np.asarray(names), return_inverse=True)[1].astype(np.intp)
    return places


def _fixed(groups: Places) -> float:
    return float((np.bincount(groups)[groups] == 1).mean())
