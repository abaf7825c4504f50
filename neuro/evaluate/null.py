"""The null of a recipe: the same nested procedure with whole stimuli paired with other responses.

Ridge predictions are linear in the targets, and the matrix that carries targets to predictions does not depend on them.
So the matrices are made once, for every fold, inner fold and alpha; a permutation only re-orders the Gram matrix of the
pictures, from which both the choice of alpha and every correlation follow.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.decoders.ridge import RidgeConfig
from voxelight.models.decoders.ridge_solver import smoothers
from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.evaluate.similarity import METRICS, correlate, correlate_by_gram
from voxelight.neuro.folds import (
    plan_folds,
    plan_inner_folds,
    prepare_fold,
    reconstruct_fold,
    resize_pictures,
)
from voxelight.neuro.recipes import ReconstructionRecipe
from voxelight.neuro.splits import Labels

Floats = NDArray[np.floating[Any]]

_NUMBERS_AT_ONCE = 8_000_000


@dataclass(frozen=True, eq=False)
class FoldOperator:
    """What a fold does to any pictures.

    Parameters
    ----------
    own : array (item,), the stimulus of every held-out item
    mixing : array (alpha, item, stimulus), held-out predictions as mixtures of the pictures
    choosing : array (alpha, stimulus, stimulus), Q: with the Gram matrix G of the pictures, the summed squared error of
        the inner folds is <Q, G>
    """

    own: NDArray[np.intp]
    mixing: NDArray[np.float64]
    choosing: NDArray[np.float64]


def permute_fast(
    betas: Betas, stimuli: Stimuli, recipe: ReconstructionRecipe, permutations: NDArray[np.intp]
) -> dict[str, NDArray[np.float64]]:
    """Score the recipe under every permutation of the stimuli, without refitting.

    Parameters
    ----------
    betas : Betas (trial, voxel)
    stimuli : Stimuli, those of the betas and in the order of `permutations`
    recipe : ReconstructionRecipe, with ridge and one alpha for all pixels (see `is_linear`)
    permutations : array (draw, stimulus), the picture that stands in for each stimulus

    Returns
    -------
    metric -> array (draw,), the mean over stimuli
    """
    operators = plan_operators(betas, stimuli.ids, recipe)
    own = np.concatenate([operator.own for operator in operators])
    flat = resize_pictures(stimuli, recipe.picture_side).images.reshape(len(stimuli.ids), -1).astype(np.float64)
    # Errors of an affine mixture do not change when all pictures move alike; this keeps the sums small.
    errors_gram = _gram(flat - flat.mean(0))
    correlation_gram = _gram(flat - flat.mean(1, keepdims=True))
    scores: dict[str, list[Floats]] = {name: [] for name in METRICS}
    for chunk in _chunks(permutations, len(own)):
        order = chunk[:, :, None], chunk[:, None, :]
        mixing = _choose(operators, errors_gram[order])
        correlations = correlate_by_gram(mixing, correlation_gram[order])
        for name, metric in METRICS.items():
            scores[name].append(mean_by_stimulus(metric(correlations, own), own))
    return {name: np.concatenate(parts) for name, parts in scores.items()}


def permute_by_refitting(
    betas: Betas, stimuli: Stimuli, recipe: ReconstructionRecipe, permutations: NDArray[np.intp]
) -> dict[str, NDArray[np.float64]]:
    """Score the recipe under every permutation by running all of it again: for any decoder, and slow.

    Parameters and result are those of `permute_fast`.
    """
    scores: dict[str, list[float]] = {name: [] for name in METRICS}
    for order in permutations:
        shuffled = replace(stimuli, images=stimuli.images[order])
        folds = [reconstruct_fold(betas, shuffled, fold, recipe) for fold in plan_folds(betas, recipe)]
        pictures = resize_pictures(shuffled, recipe.picture_side)
        own = find_rows(pictures.ids, np.concatenate([fold.stimulus_ids for fold in folds]))
        correlations = correlate(np.concatenate([fold.predictions for fold in folds]), pictures.images)
        for name, metric in METRICS.items():
            scores[name].append(float(mean_by_stimulus(metric(correlations, own), own)))
    return {name: np.asarray(values) for name, values in scores.items()}


def is_linear(recipe: ReconstructionRecipe) -> bool:
    """Whether `permute_fast` covers the recipe: ridge, with one alpha for all pixels, each left as it is predicted."""
    if recipe.decoder != "ridge":
        return False
    config: RidgeConfig = recipe.decoder_config()
    return not config.alpha_per_target and not config.rescale


def plan_operators(betas: Betas, ids: Labels, recipe: ReconstructionRecipe) -> tuple[FoldOperator, ...]:
    """Return what each fold does to any pictures of the stimuli `ids`."""
    config: RidgeConfig = recipe.decoder_config()
    operators = []
    for fold in plan_folds(betas, recipe):
        train, test = prepare_fold(betas, fold, recipe)
        shown = np.eye(len(ids))[find_rows(ids, train.stimulus_ids)]
        choosing = np.zeros((len(config.alphas), len(ids), len(ids)))
        inner_folds = plan_inner_folds(train, recipe) if config.needs_folds else ()
        for inner in inner_folds:
            carried = smoothers(train.values[inner.train], train.values[inner.test], config.alphas)
            misses = carried @ shown[inner.train] - shown[inner.test]
            choosing += misses.transpose(0, 2, 1) @ misses
        mixing = smoothers(train.values, test.values, config.alphas) @ shown
        operators.append(FoldOperator(find_rows(ids, test.stimulus_ids), mixing, choosing))
    return tuple(operators)


def mean_by_stimulus(scores: Floats, own: NDArray[np.intp]) -> Floats:
    """Average over the items of each stimulus, then over stimuli: array (..., item) -> array (...)."""
    weights = 1 / np.bincount(own)[own]
    mean: Floats = (scores * weights).sum(-1) / weights.sum()
    return mean


def find_rows(ids: Labels, wanted: Labels) -> NDArray[np.intp]:
    """Return the place of every wanted id in `ids`."""
    place = {name: row for row, name in enumerate(ids.tolist())}
    return np.asarray([place[name] for name in wanted.tolist()], dtype=np.intp)


def _choose(operators: tuple[FoldOperator, ...], grams: Floats) -> NDArray[np.float64]:
    """Return the mixtures of all folds at the alphas that each permutation chooses: array (draw, item, stimulus)."""
    chosen = []
    for operator in operators:
        errors = grams.reshape(len(grams), -1) @ operator.choosing.reshape(len(operator.choosing), -1).T
        chosen.append(operator.mixing[errors.argmin(1)])
    return np.concatenate(chosen, axis=1)


def _gram(rows: Floats) -> Floats:
    product: Floats = rows @ rows.T
    return product


def _chunks(permutations: NDArray[np.intp], n_items: int) -> Iterator[NDArray[np.intp]]:
    at_once = max(1, _NUMBERS_AT_ONCE // (max(n_items, permutations.shape[1]) * permutations.shape[1]))
    for start in range(0, len(permutations), at_once):
        yield permutations[start : start + at_once]
