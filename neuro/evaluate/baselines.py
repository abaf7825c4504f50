"""What needs no decoder: rows that stand beside every score."""

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.evaluate.similarity import correlate
from voxelight.neuro.folds import find_pictures, plan_folds, prepare_fold
from voxelight.neuro.recipes import ReconstructionRecipe


def predict_training_mean(betas: Betas, stimuli: Stimuli, recipe: ReconstructionRecipe) -> NDArray[np.float32]:
    """Predict the mean training picture of the fold, whatever the betas are.

    Returns
    -------
    array (item, row, column, channel), in the order of the folds
    """
    predicted = []
    for fold in plan_folds(betas, recipe):
        train, test = prepare_fold(betas, fold, recipe)
        mean = find_pictures(stimuli, train.stimulus_ids).mean(0)
        predicted.append(np.repeat(mean[None], len(test.stimulus_ids), axis=0))
    return np.concatenate(predicted)


def predict_nearest_training(betas: Betas, stimuli: Stimuli, recipe: ReconstructionRecipe) -> NDArray[np.float32]:
    """Predict the training picture whose betas correlate most with the held-out betas.

    Returns
    -------
    array (item, row, column, channel), in the order of the folds
    """
    predicted = []
    for fold in plan_folds(betas, recipe):
        train, test = prepare_fold(betas, fold, recipe)
        nearest = correlate(test.values, train.values).argmax(1)
        predicted.append(find_pictures(stimuli, train.stimulus_ids[nearest]))
    return np.concatenate(predicted)


BASELINES = {"training_mean": predict_training_mean, "nearest_training": predict_nearest_training}
