"""From betas to pictures that the decoder never saw, one independent fold at a time."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import transform

from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.betas import average_repeats, normalise, select_rows
from voxelight.neuro.recipes import ReconstructionRecipe
from voxelight.neuro.roi import choose_reliable, keep_voxels
from voxelight.neuro.splits import Fold, Labels, Split, find_unit_ids, k_fold, leave_one_out


@dataclass(frozen=True, eq=False)
class FoldReconstruction:
    """What one fold gives.

    Parameters
    ----------
    key : of the fold
    stimulus_ids : array (stimulus,), held-out stimuli
    images : array (stimulus, row, column, channel), float32 in [0, 1], to be looked at
    predictions : array (stimulus, row, column, channel), float32, as the decoder gave them, to be scored
    alpha : penalty that the training rows chose
    weights_sha256 : hash of the fitted decoder
    seed : of the recipe
    """

    key: str
    stimulus_ids: Labels
    images: NDArray[np.float32]
    predictions: NDArray[np.float32]
    alpha: float
    weights_sha256: str
    seed: int


def plan_split(betas: Betas, recipe: ReconstructionRecipe) -> Split:
    """Return the split of a recipe: every unit held out once, by itself or dealt onto folds."""
    return _split(recipe.unit, find_unit_ids(betas, recipe.unit), betas.stimulus_ids, recipe.n_folds, recipe.seed)


def plan_folds(betas: Betas, recipe: ReconstructionRecipe) -> tuple[Fold, ...]:
    """Return the folds of a recipe, each enough for a worker to do it alone.

    Parameters
    ----------
    betas : Betas (trial, voxel)
    recipe : ReconstructionRecipe

    Raises
    ------
    BadInput
        The betas do not say the unit, or have fewer than two of it.
    """
    return plan_split(betas, recipe).folds


def reconstruct_fold(
    betas: Betas, stimuli: Stimuli, fold: Fold, recipe: ReconstructionRecipe, device: str = "cpu"
) -> FoldReconstruction:
    """Fit on the training rows of a fold and reconstruct its held-out stimuli.

    Parameters
    ----------
    betas : Betas (trial, voxel)
    stimuli : Stimuli, a picture for every stimulus of the betas
    fold : Fold, from `plan_folds`
    recipe : ReconstructionRecipe
    device : where to fit, e.g. ``cpu`` or ``cuda:0``

    Returns
    -------
    FoldReconstruction
        The same for the same arguments, whichever other folds were done before.

    Raises
    ------
    BadInput
        A stimulus has no picture, or the normalisation lacks its rows.
    """
    train, test = prepare_fold(betas, fold, recipe)
    pictures = resize_pictures(stimuli, recipe.picture_side)
    targets = find_pictures(pictures, train.stimulus_ids).astype(np.float64)
    config = recipe.decoder_config()
    inner_folds = plan_inner_folds(train, recipe) if config.needs_folds else ()
    folds = [(inner.train, inner.test) for inner in inner_folds]
    decoder = config.fit(train.values, targets, folds, device)
    predicted: NDArray[Any] = decoder(test.values)
    predictions = predicted.astype(np.float32)
    return FoldReconstruction(
        key=fold.key,
        stimulus_ids=test.stimulus_ids,
        images=predictions.clip(0, 1),
        predictions=predictions,
        alpha=decoder.alpha,
        weights_sha256=decoder.weights_sha256,
        seed=recipe.seed,
    )


def prepare_fold(betas: Betas, fold: Fold, recipe: ReconstructionRecipe) -> tuple[Betas, Betas]:
    """Return the training rows and the held-out rows of a fold, normalised, voxels chosen, and averaged over repeats.

    Training rows are averaged inside each unit, so that the folds that choose alpha can hold whole units out again;
    held-out rows are averaged over all trials of a stimulus.
    """
    scaled = normalise(betas, fold.train, recipe.normalisation)
    if recipe.voxels is not None:
        scaled = keep_voxels(scaled, choose_reliable(scaled, fold.train, recipe.voxels).places)
    train, test = select_rows(scaled, fold.train), select_rows(scaled, fold.test)
    if recipe.repeats == "averaged":
        train = average_repeats(train, within=find_unit_ids(train, recipe.unit))
    return train, average_repeats(test)


def plan_inner_folds(train: Betas, recipe: ReconstructionRecipe) -> tuple[Fold, ...]:
    """Return the folds inside the training rows that choose alpha, by the same unit as the outer ones.

    Raises
    ------
    BadInput
        The training rows hold one unit only.
    """
    unit_ids = find_unit_ids(train, recipe.unit)
    n_folds = recipe.inner_folds and min(recipe.inner_folds, len(set(unit_ids.tolist())))
    return _split(recipe.unit, unit_ids, train.stimulus_ids, n_folds, recipe.seed).folds


def find_pictures(stimuli: Stimuli, ids: Labels) -> NDArray[np.float32]:
    """Return the picture of every row, repeats included.

    Returns
    -------
    array (row, row of pixels, column, channel)

    Raises
    ------
    BadInput
        A stimulus has no picture.
    """
    distinct, place = np.unique(ids, return_inverse=True)
    return stimuli.select(distinct).images[place]


def resize_pictures(stimuli: Stimuli, side: int | None) -> Stimuli:
    """Bring the longer side of the pictures to `side` pixels, low-pass filtered where they shrink."""
    rows, columns = stimuli.images.shape[1:3]
    if side is None or side == max(rows, columns):
        return stimuli
    scale = side / max(rows, columns)
    shape = (max(1, round(rows * scale)), max(1, round(columns * scale)), stimuli.images.shape[3])
    bring: Any = transform.resize
    small = [bring(image, shape, order=1, anti_aliasing=scale < 1) for image in stimuli.images]
    return replace(stimuli, images=np.stack(small).astype(np.float32).clip(0, 1))


def _split(unit: str, unit_ids: Labels, stimulus_ids: Labels, n_folds: int | None, seed: int) -> Split:
    if n_folds is None:
        return leave_one_out(unit, unit_ids, stimulus_ids)
    return k_fold(unit, unit_ids, stimulus_ids, n_folds, seed)
