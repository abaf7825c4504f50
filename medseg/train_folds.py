"""Train on all folds but one and score that one, as often as is asked; then the folds together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from voxelight.medseg.cases import Case
from voxelight.medseg.evaluate import dice_by_case, mean_by_person
from voxelight.medseg.predict import build_segmenter
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.segment import segment
from voxelight.medseg.splits import Split
from voxelight.medseg.train import Fitted, fit
from voxelight.models.errors import BadInput
from voxelight.models.training import processes
from voxelight.models.training.loop import Hooks, LoopOptions

State = dict[str, Tensor]
Dice = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class FoldFit:
    """What training without one fold gave.

    Parameters
    ----------
    fold : number of the fold that was held out; None where nothing was
    weights : in half precision, as they are stored and were scored; empty where the training was paused
    fitted : how it ended
    dice : case -> label -> Dice on the grid of the case, of every held-out case; what is undefined is left out
    trained_on : number of cases
    """

    fold: int | None
    weights: State
    fitted: Fitted
    dice: Dice
    trained_on: int


def fit_fold(
    cases: Sequence[Case],
    recipe: SegmentationRecipe,
    split: Split,
    fold: int | None,
    device: str,
    hooks: Hooks = Hooks(),  # noqa: B008
    options: LoopOptions = LoopOptions(),  # noqa: B008
    start: State | None = None,
) -> FoldFit:
    """Fit a recipe on all cases but those of a fold, and score it on that one.

    Parameters
    ----------
    cases : all of them
    recipe : with training options
    split : folds of persons
    fold : that is held out; None: nothing, and nothing is scored
    device, hooks, options, start : as of `medseg.train.fit`

    Raises
    ------
    BadInput
        There is no such fold, or as `fit`.
    """
    held_out = find_held_out(split, fold)
    kept = [case for case in cases if case.name not in held_out]
    fitted = fit(kept, recipe, device, hooks, options, split.person_of, start)
    halved = {name: value.half() if value.is_floating_point() else value for name, value in fitted.weights.items()}
    scored: Dice = {}
    if fitted.finished and processes.is_first():
        scored = score_cases([case for case in cases if case.name in held_out], recipe, halved, device)
    return FoldFit(fold, halved, fitted, scored, len(kept) - len(fitted.watched))


def find_held_out(split: Split, fold: int | None) -> frozenset[str]:
    """Return the cases of a fold; none for None.

    Raises
    ------
    BadInput
        There is no such fold.
    """
    if fold is None:
        return frozenset()
    if not 0 <= fold < len(split.folds):
        raise BadInput(f"fold {fold}", f"0 to {len(split.folds) - 1}", "Name a fold of the split.")
    return frozenset(split.folds[fold])


def score_cases(cases: Sequence[Case], recipe: SegmentationRecipe, weights: State, device: str) -> Dice:
    """Return case -> label -> Dice of weights; what is undefined is left out."""
    if not cases:
        return {}
    segmenter = build_segmenter(recipe, weights, device)
    found = [segment(case.volume, segmenter).array for case in cases]
    rows = dice_by_case(found, [case.labels.array for case in cases], recipe.scored)
    return {
        case.name: {label: value for label, value in row.items() if not math.isnan(value)}
        for case, row in zip(cases, rows, strict=True)
    }


def summarise(dice: Dice, recipe: SegmentationRecipe, split: Split) -> dict[str, Any]:
    """Return label -> mean Dice over persons with its interval.

    Parameters
    ----------
    dice : case -> label -> Dice
    recipe : its labels and seed
    split : case -> person
    """
    found = {}
    for label in recipe.scored:
        scores = {case: row[label] for case, row in dice.items() if label in row}
        if scores:
            found[label] = asdict(mean_by_person(scores, split.person_of, recipe.seed))
    return found


def tabulate(fits: Mapping[int, Dice], recipe: SegmentationRecipe, split: Split) -> dict[str, Any]:
    """Return the table of a cross-validation.

    Parameters
    ----------
    fits : fold -> case -> label -> Dice of its held-out cases
    recipe, split : as of `summarise`

    Returns
    -------
    dict with ``folds`` (fold -> label -> mean over persons), ``pooled`` (label -> mean over all persons with its
    interval) and ``spread`` (label -> standard deviation over folds, of n - 1; left out for one fold)
    """
    by_fold = {fold: summarise(dice, recipe, split) for fold, dice in sorted(fits.items())}
    means: dict[str, list[float]] = {}
    for found in by_fold.values():
        for label, interval in found.items():
            means.setdefault(label, []).append(interval["estimate"])
    return {
        "folds": {str(fold): found for fold, found in by_fold.items()},
        "pooled": summarise({case: row for dice in fits.values() for case, row in dice.items()}, recipe, split),
        "spread": {label: float(np.std(values, ddof=1)) for label, values in means.items() if len(values) > 1},
    }
