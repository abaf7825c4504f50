"""Scores with their interval, their null and all that one has to know to compare them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.betas import find_normalisation
from voxelight.neuro.evaluate.baselines import BASELINES
from voxelight.neuro.evaluate.intervals import bootstrap_mean, draw_permutations, moves_units_whole, permutation_p
from voxelight.neuro.evaluate.null import (
    find_rows,
    is_linear,
    permute_by_refitting,
    permute_fast,
)
from voxelight.neuro.evaluate.similarity import METRICS, correlate
from voxelight.neuro.folds import FoldReconstruction, plan_split, resize_pictures
from voxelight.neuro.recipes import ReconstructionRecipe
from voxelight.neuro.splits import Labels, Split, find_unit_ids

Floats = NDArray[np.floating[Any]]

_FEW_STIMULI = 50
_FEWEST_STIMULI = 3


@dataclass(frozen=True)
class Metric:
    """One score.

    Parameters
    ----------
    name : the metric; with a dot and a baseline behind it, what needs no decoder reaches
    value : mean over stimuli
    low, high : 95 % bootstrap interval
    null_mean, null_std, p : of the null, where the score has one
    n : number of distinct stimuli
    """

    name: str
    value: float
    low: float
    high: float
    null_mean: float | None
    null_std: float | None
    p: float | None
    n: int


@dataclass(frozen=True, eq=False)
class ScoreReport:
    """The scores of a recipe and the conditions under which they hold.

    Parameters
    ----------
    recipe : its name
    normalisation : name of the normalisation
    unit : what was held out whole
    n_stimuli, n_folds : distinct stimuli, folds
    permutations, seed : draws of the null, seed of all draws
    simulated : whether the betas were made by a model
    metrics : the scores
    by_stimulus : metric -> array (stimulus,), in the order of `stimulus_ids`
    stimulus_ids : array (stimulus,)
    notes : what limits the scores, one sentence each
    """

    recipe: str
    normalisation: str
    unit: str
    n_stimuli: int
    n_folds: int
    permutations: int
    seed: int
    simulated: bool
    metrics: tuple[Metric, ...]
    by_stimulus: dict[str, Floats]
    stimulus_ids: Labels
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each score: name, value, low, high, null_mean, null_std, p, n."""
        return [asdict(metric) for metric in self.metrics]

    def find(self, name: str) -> Metric:
        """Return the score of this name."""
        return {metric.name: metric for metric in self.metrics}[name]

    def lines(self) -> list[str]:
        """Return the report as lines of text; each score names its normalisation and what was held out."""
        kind = "simulated, " if self.simulated else ""
        under = f"({kind}held out by {self.unit}, {self.normalisation}, n = {self.n_stimuli})"
        return [f"{_say(metric, self.permutations)} {under}" for metric in self.metrics] + list(self.notes)


def score_reconstructions(
    betas: Betas, stimuli: Stimuli, reconstructions: Sequence[FoldReconstruction], recipe: ReconstructionRecipe
) -> ScoreReport:
    """Score the folds of a recipe beside its null and its baselines.

    Parameters
    ----------
    betas : Betas (trial, voxel), those that were decoded
    stimuli : Stimuli, a picture for every stimulus of the betas
    reconstructions : all folds of the recipe
    recipe : ReconstructionRecipe

    Returns
    -------
    ScoreReport

    Raises
    ------
    BadInput
        A fold is missing, or fewer than three stimuli were held out.
    """
    split = plan_split(betas, recipe)
    folds = _in_order(split, reconstructions)
    ids = np.asarray(list(dict.fromkeys(betas.stimulus_ids.tolist())))
    shown = stimuli.select(ids)
    pictures = resize_pictures(shown, recipe.picture_side)
    own = find_rows(ids, np.concatenate([fold.stimulus_ids for fold in folds]))
    units = find_units(betas, ids, recipe.unit)
    predicted = {"": np.concatenate([fold.predictions for fold in folds])}
    predicted |= {f".{name}": baseline(betas, pictures, recipe) for name, baseline in BASELINES.items()}
    null = _null(betas, shown, units, recipe)
    metrics: list[Metric] = []
    by_stimulus: dict[str, Floats] = {}
    for suffix, images in predicted.items():
        correlations = correlate(images, pictures.images)
        for name, metric in METRICS.items():
            scores = np.bincount(own, weights=metric(correlations, own)) / np.bincount(own)
            by_stimulus[name + suffix] = scores
            metrics.append(_metric(name + suffix, scores, units, null.get(name + suffix), recipe))
    return ScoreReport(
        recipe=recipe.name,
        normalisation=recipe.normalisation,
        unit=recipe.unit,
        n_stimuli=len(ids),
        n_folds=len(split.folds),
        permutations=recipe.permutations,
        seed=recipe.seed,
        simulated=betas.simulated,
        metrics=tuple(metrics),
        by_stimulus=by_stimulus,
        stimulus_ids=ids,
        notes=_notes(betas, split, units, folds, recipe),
    )


def _in_order(split: Split, reconstructions: Sequence[FoldReconstruction]) -> list[FoldReconstruction]:
    given = {fold.key: fold for fold in reconstructions}
    missing = [fold.key for fold in split.folds if fold.key not in given]
    if missing or len(given) > len(split.folds):
        raise BadInput(
            f"{len(given)} reconstructed folds, without {', '.join(missing[:5]) or 'a gap'}",
            f"the {len(split.folds)} folds of the recipe",
            "Reconstruct every fold of these betas before scoring.",
        )
    n_stimuli = len(set(split.stimulus_ids.tolist()))
    if n_stimuli < _FEWEST_STIMULI:
        raise BadInput(f"{n_stimuli} distinct stimuli", f"at least {_FEWEST_STIMULI}", "Add stimuli.")
    return [given[fold.key] for fold in split.folds]


def find_units(betas: Betas, ids: Labels, unit: str) -> Labels:
    """Return what each stimulus is resampled with: the unit it is held out with, or itself where that is not one."""
    unit_ids = find_unit_ids(betas, unit)
    found = [np.unique(unit_ids[betas.stimulus_ids == name]) for name in ids]
    return np.concatenate(found) if all(len(names) == 1 for names in found) else ids


def _null(betas: Betas, stimuli: Stimuli, units: Labels, recipe: ReconstructionRecipe) -> dict[str, Floats]:
    if not recipe.permutations:
        return {}
    permutations = draw_permutations(units, recipe.permutations, recipe.seed)
    permute = permute_fast if is_linear(recipe) else permute_by_refitting
    return dict(permute(betas, stimuli, recipe, permutations))


def _metric(name: str, scores: Floats, units: Labels, null: Floats | None, recipe: ReconstructionRecipe) -> Metric:
    value = float(scores.mean())
    low, high = bootstrap_mean(scores, units, recipe.bootstrap_draws, recipe.seed)
    if null is None:
        return Metric(name, value, low, high, null_mean=None, null_std=None, p=None, n=len(scores))
    p = permutation_p(value, null)
    return Metric(name, value, low, high, float(null.mean()), float(null.std()), p, n=len(scores))


def _say(metric: Metric, permutations: int) -> str:
    text = f"{metric.name} {metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"
    if metric.p is None:
        return text
    return f"{text}, null {metric.null_mean:.3f} ± {metric.null_std:.3f}, p = {metric.p:.3g} (B = {permutations})"


def _notes(
    betas: Betas, split: Split, units: Labels, folds: Sequence[FoldReconstruction], recipe: ReconstructionRecipe
) -> tuple[str, ...]:
    n_stimuli, n_units = len(units), len(set(units.tolist()))
    moved = f"whole {split.unit} units" if moves_units_whole(units) else "whole stimuli"
    alphas = recipe.decoder_options.get("alphas", ())
    ends = {"smallest": min(alphas), "largest": max(alphas)} if len(alphas) > 1 else {}
    at_end = {end: sum(fold.alpha == alpha for fold in folds) for end, alpha in ends.items()}
    normalisation = find_normalisation(recipe.normalisation)
    candidates = {
        "Simulated data: the betas were made by a model, nobody was scanned.": betas.simulated,
        f"Normalisation {normalisation.name}: {normalisation.summary}.": True,
        f"Null: the same recipe, alpha included, with {moved} permuted. Its mean is not .5, because the mean of the "
        "training pictures opposes the picture that is left out.": bool(recipe.permutations),
        f"Only {n_stimuli} distinct pictures in {n_units} held-out units: expect other values with other pictures.": (
            n_stimuli < _FEW_STIMULI
        ),
        f"{split.n_stimuli_seen_before} held-out stimuli also occur in training, the split being by {split.unit}: "
        "these scores do not speak for new pictures.": split.n_stimuli_seen_before > 0,
    } | {f"Alpha is the {end} of its grid in {n} of {len(folds)} folds.": n > 0 for end, n in at_end.items()}
    return tuple(note for note, holds in candidates.items() if holds)
