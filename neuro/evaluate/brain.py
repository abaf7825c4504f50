"""Brain rows of an evaluation: would what was decoded evoke the activity that was measured, region by region.

A ridge goes from pictures to the betas of a region, fitted in folds on stimuli that neither the decoder was trained on
nor the fold scores. Where the region shares no voxel with the decoder, it may choose the best of several samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import transform

from voxelight.models.decoders.ridge import RidgeConfig
from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.best_of import Best, Signal, choose_best, fit_encoder
from voxelight.neuro.evaluate.ceiling import find_reliability
from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.evaluation import MetricFacts
from voxelight.neuro.evaluate.similarity import correlate, own_correlation
from voxelight.neuro.splits import Labels, k_fold

Floats = NDArray[np.floating[Any]]

METRIC = "brain_correlation"
FEWEST_STIMULI, FEWEST_VOXELS = 10, 3
FEATURES = "colours and contrast of 12 x 12 fields of the picture"
_NOT_APART = "Every region shares voxels with the decoder, which would agree with itself."
_FOLDS, _INNER, _SIDE = 5, 4, 12
_ALPHAS = tuple(10.0**power for power in range(7))


@dataclass(frozen=True, eq=False)
class Region:
    """Betas of one region in the trials of a recording.

    Parameters
    ----------
    name : of the region
    values : array (trial, voxel)
    voxels : array (voxel,), their numbers as the decoder's voxels are counted
    """

    name: str
    values: Floats
    voxels: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Brain:
    """What the regions of a recording are compared by.

    Parameters
    ----------
    regions : each of its own voxels
    stimulus_ids : array (trial,)
    pictures : stimulus -> array (row, column, 3) in [0, 1]
    trained_on : stimuli that the decoder was trained on; None where that is not known
    decoder_voxels : numbers of the decoder's voxels
    """

    regions: tuple[Region, ...]
    stimulus_ids: Labels
    pictures: Mapping[str, Floats]
    trained_on: frozenset[str] | None
    decoder_voxels: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class BrainScores:
    """What regions say of decoded pictures.

    Parameters
    ----------
    compared : one metric a region: correlation over voxels of encoded picture (seed, item) and measured betas
    seen : metric -> array (1, item), the picture that was seen through the same encoder
    ceiling : metric -> array (1, item), the most that the noise of the betas leaves within reach; empty without repeats
    best : the chosen samples, and the metric that they were chosen by; None where nothing may choose
    reason : why not
    facts : of every metric
    """

    compared: Compared
    seen: dict[str, Floats]
    ceiling: dict[str, Floats]
    best: tuple[Best, str] | None
    reason: str
    facts: tuple[MetricFacts, ...]


def score_regions(brain: Brain, pictures: Floats, ids: Labels, seed: int = 0) -> BrainScores:
    """Score decoded pictures by every region, and let the first that shares no voxel with the decoder choose samples.

    Parameters
    ----------
    brain : Brain
    pictures : array (seed, item, row, column, 3) in [0, 1], decoded
    ids : array (item,), stimulus of each; none of them was trained on
    seed : of the folds

    Raises
    ------
    BadInput
        There are too few stimuli, or a region has too few voxels.
    Leak
        A stimulus that is scored was trained on.
    """
    unseen = [name for name in dict.fromkeys(brain.stimulus_ids.tolist())
              if name in brain.pictures and name not in (brain.trained_on or ())]  # fmt: skip
    if len(unseen) < FEWEST_STIMULI or not set(ids.tolist()) <= set(unseen):
        raise BadInput(
            f"{len(unseen)} stimuli with pictures that the decoder was not trained on",
            f"{FEWEST_STIMULI} or more, those that are scored among them",
            "Hold out more pictures: a brain encoder is fitted on other trials than the decoder.",
        )
    folds = [set(fold.stimulus_ids.tolist()) for fold in
             k_fold("stimulus", np.array(unseen), np.array(unseen), _FOLDS, seed).folds]  # fmt: skip
    features = {name: find_features(brain.pictures[name][None])[0] for name in unseen}
    decoded = find_features(pictures.reshape(-1, *pictures.shape[2:])).reshape(*pictures.shape[:2], -1)
    chooser, reason = _find_chooser(brain, len(pictures))
    similarity, seen, best = {}, {}, None
    for region in brain.regions:
        name = f"{METRIC}_{region.name}"
        found = _follow_folds(brain, region, features, decoded, (ids, folds), region is chooser)
        similarity[name], seen[name] = found.similarity, found.seen[None]
        best = (found.best, name) if found.best is not None else best
    facts = tuple(_describe(brain, region, len(unseen)) for region in brain.regions)
    compared = Compared(similarity, dict.fromkeys(similarity, own_correlation))
    return BrainScores(compared, seen, _find_ceilings(brain, ids), best, reason, facts)


def find_features(pictures: Floats) -> NDArray[np.float64]:
    """Return what an encoder sees of pictures (picture, row, column, 3): array (picture, feature)."""
    shape = (len(pictures), _SIDE, _SIDE, pictures.shape[3])
    resize: Any = transform.resize
    colours = resize(pictures.astype(np.float64), shape, order=1, anti_aliasing=True)
    grey = pictures.mean(-1, dtype=np.float64)
    slopes = np.hypot(*np.gradient(grey, axis=(1, 2)))
    contrast = resize(slopes, shape[:3], order=1, anti_aliasing=True)
    return np.concatenate([colours.reshape(len(pictures), -1), contrast.reshape(len(pictures), -1)], axis=1)


@dataclass(frozen=True, eq=False)
class _Followed:
    similarity: Floats
    seen: Floats
    best: Best | None


def _follow_folds(
    brain: Brain, region: Region, features: Mapping[str, Floats], decoded: Floats,
    scored: tuple[Labels, Sequence[set[str]]], chooses: bool,
) -> _Followed:  # fmt: skip
    """Fit an encoder in every fold and compare what it predicts with what was measured."""
    ids, folds = scored
    seeds, count = decoded.shape[:2]
    similarity, seen = np.zeros((seeds, count, count)), np.zeros(count)
    samples, agreement, signal = np.zeros(count, np.intp), np.zeros((count, seeds)), ""
    for held_out in folds:
        own = np.flatnonzero([name in held_out for name in ids.tolist()])
        if not len(own):
            continue
        rows = np.flatnonzero([name in features and name not in held_out for name in brain.stimulus_ids.tolist()])
        encode, scale = _fit(region, brain.stimulus_ids, rows, features)
        measured = np.stack([scale(region.values[brain.stimulus_ids == ids[item]]).mean(0) for item in own])
        predicted = encode(decoded.reshape(seeds * count, -1)).reshape(seeds, count, -1)
        for number in range(seeds):
            similarity[number][:, own] = correlate(predicted[number], measured)
        shown = encode(np.stack([features[ids[item]] for item in own]))
        seen[own] = own_correlation(correlate(shown, measured), np.arange(len(own)))
        if chooses:
            signals = _tell_signals(brain, region, rows, ids[own])
            best = choose_best(predicted[:, own].swapaxes(0, 1), measured, *signals)
            samples[own], agreement[own], signal = best.samples, best.agreement, best.signal
    chosen = Best(samples, agreement, f"{signal} In {len(folds)} folds; counts are those of the last.")
    return _Followed(similarity, seen, chosen if chooses else None)


def _fit(region: Region, stimulus_ids: Labels, rows: NDArray[np.intp], features: Mapping[str, Floats]) -> Any:
    """Return what encodes features, and what standardises betas, both by the rows of a fold alone."""
    seen = np.stack([features[name] for name in stimulus_ids[rows].tolist()])
    centre, width = seen.mean(0), seen.std(0)
    width = np.where(width > 0, width, 1)
    mean, spread = region.values[rows].mean(0), region.values[rows].std(0)
    spread = np.where(spread > 0, spread, 1)
    inner = k_fold("stimulus", stimulus_ids[rows], stimulus_ids[rows], _INNER, 0).folds
    pairs = [(fold.train, fold.test) for fold in inner]
    ridge = fit_encoder(
        (seen - centre) / width, (region.values[rows] - mean) / spread, pairs, RidgeConfig(alphas=_ALPHAS)
    )
    return lambda some: ridge((some - centre) / width), lambda betas: (betas - mean) / spread


def _tell_signals(brain: Brain, region: Region, rows: NDArray[np.intp], ids: Labels) -> tuple[Signal, Signal, Signal]:
    """Return what decoder and encoder were fitted on, and what is chosen for; trials are rows of the recording."""
    shown, trials = brain.stimulus_ids, np.arange(len(brain.stimulus_ids)).astype(str)

    def tell(chosen: NDArray[Any], voxels: NDArray[np.intp]) -> Signal:
        return Signal(voxels, trials[chosen], shown[chosen])

    known = np.isin(shown, sorted(brain.trained_on or ()))
    return tell(known, brain.decoder_voxels), tell(rows, region.voxels), tell(np.isin(shown, ids), region.voxels)


def _find_chooser(brain: Brain, seeds: int) -> tuple[Region | None, str]:
    if seeds < 2:
        return None, "One sample of each stimulus was drawn, so there is none to choose."
    if brain.trained_on is None:
        return None, "What the decoder was trained on is not known, so no trial is known to be another."
    apart = [region for region in brain.regions if not len(np.intersect1d(region.voxels, brain.decoder_voxels))]
    return (apart[0], "") if apart else (None, _NOT_APART)


def _describe(brain: Brain, region: Region, stimuli: int) -> MetricFacts:
    if len(region.voxels) < FEWEST_VOXELS:
        raise BadInput(f"the region {region.name} of {len(region.voxels)} voxels", f"{FEWEST_VOXELS} or more",
                       "Leave it out.")  # fmt: skip
    shared = len(np.intersect1d(region.voxels, brain.decoder_voxels))
    trials = "trials that the decoder was not trained on" if brain.trained_on is not None else (
        "trials of which it is NOT KNOWN whether the decoder was trained on them")  # fmt: skip
    return MetricFacts(
        name=f"{METRIC}_{region.name}",
        title=f"Brain correlation, {region.name}",
        about="brain",
        note=f"Pearson's r over {len(region.voxels)} voxels, {shared} of them the decoder's, between measured betas, "
        f"repeats averaged, and those that an encoder predicts of the picture: ridge from {FEATURES}, fitted in "
        f"{_FOLDS} folds of {stimuli} stimuli on {trials}. Only as good as its encoder. q over regions.",
    )


def _find_ceilings(brain: Brain, ids: Labels) -> dict[str, Floats]:
    """Return for every region what a perfect prediction would reach of each picture; nothing without repeats."""
    trials = [np.flatnonzero(brain.stimulus_ids == name) for name in ids.tolist()]
    if min(map(len, trials)) < 2:
        return {}
    found = {}
    for region in brain.regions:
        centre = region.values.mean(0)
        halves = [np.stack([region.values[rows[half::2]].mean(0) - centre for rows in trials]) for half in (0, 1)]
        found[f"{METRIC}_{region.name}"] = np.sqrt(find_reliability(halves[0].T, halves[1].T))[None]
    return found
