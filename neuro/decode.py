"""The whole of a recipe in one call, for notebooks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.evaluate.report import ScoreReport, score_reconstructions
from voxelight.neuro.folds import FoldReconstruction, plan_folds, reconstruct_fold
from voxelight.neuro.recipes import ReconstructionRecipe, find_recipe
from voxelight.neuro.splits import Labels


@dataclass(frozen=True, eq=False)
class Decoding:
    """Reconstructions of every held-out stimulus, and their scores.

    Parameters
    ----------
    recipe : ReconstructionRecipe
    folds : one for each held-out unit
    report : ScoreReport
    """

    recipe: ReconstructionRecipe
    folds: tuple[FoldReconstruction, ...]
    report: ScoreReport

    @property
    def images(self) -> NDArray[np.float32]:
        """Reconstructions (item, row, column, channel), in [0, 1], fold by fold."""
        return np.concatenate([fold.images for fold in self.folds])

    @property
    def stimulus_ids(self) -> Labels:
        """The stimulus of each reconstruction (item,)."""
        return np.concatenate([fold.stimulus_ids for fold in self.folds])


def decode(
    betas: Betas, stimuli: Stimuli, recipe: str | ReconstructionRecipe = "miyawaki-ridge", device: str = "cpu"
) -> Decoding:
    """Reconstruct every held-out stimulus of a recipe and score it beside its null.

    Parameters
    ----------
    betas : Betas (trial, voxel)
    stimuli : Stimuli, a picture for every stimulus of the betas
    recipe : name of a packaged recipe, or a recipe
    device : where to fit, e.g. ``cpu`` or ``cuda:0``

    Raises
    ------
    NotFound
        No recipe has this name.
    BadInput
        Betas, stimuli and recipe do not fit each other.
    """
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    folds = tuple(reconstruct_fold(betas, stimuli, fold, recipe, device) for fold in plan_folds(betas, recipe))
    return Decoding(recipe, folds, score_reconstructions(betas, stimuli, folds, recipe))
