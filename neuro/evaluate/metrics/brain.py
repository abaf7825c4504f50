"""Whether reconstructions would evoke the activity that was measured: correlation through a brain encoder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.evaluate.metrics.pictures import check_pictures, correlate_pairs
from voxelight.neuro.evaluate.metrics.result import Conditions, MetricResult, average

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class BrainEncoder:
    """What predicts betas from pictures.

    Parameters
    ----------
    name : what it is, and what it was fitted on
    predict : array (picture, row, column, 3) in [0, 1] -> array (picture, voxel)
    weights_sha256 : of its weights
    preprocessing : what it does to pictures
    """

    name: str
    predict: Callable[[Floats], Floats]
    weights_sha256: str
    preprocessing: str


def score_brain(
    reconstructed: Floats,
    stimulus_ids: NDArray[np.str_],
    betas: Betas,
    encoder: BrainEncoder,
    rois: Mapping[str, NDArray[np.bool_]],
) -> dict[str, MetricResult]:
    """Score, for every ROI and picture, Pearson's r over voxels between predicted and repeat-averaged betas.

    Parameters
    ----------
    reconstructed : array (picture, row, column, 3) in [0, 1]
    stimulus_ids : array (picture,), what each reconstruction is of
    betas : Betas (trial, voxel), measured, on trials that neither decoder nor encoder was fitted on
    encoder : BrainEncoder of the same voxels
    rois : name -> array (voxel,), which voxels it has

    Returns
    -------
    ROI -> MetricResult, one score a picture

    Raises
    ------
    BadInput
        A stimulus was never measured, an ROI has fewer than three voxels, or the numbers do not belong together.
    """
    check_pictures(reconstructed)
    measured = average_repeats(betas, stimulus_ids)
    predicted = np.asarray(encoder.predict(reconstructed))
    if predicted.shape != measured.shape:
        raise BadInput(
            f"predictions of shape {predicted.shape} for betas of shape {measured.shape}",
            "(picture, voxel), one picture an id and the voxels of the betas",
            "Hand in the encoder of this subject and these voxels.",
        )
    return {name: _score_roi(name, predicted, measured, np.asarray(mask), encoder) for name, mask in rois.items()}


def average_repeats(betas: Betas, stimulus_ids: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return the mean betas over all trials of each stimulus.

    Returns
    -------
    array (stimulus, voxel), in the order of `stimulus_ids`

    Raises
    ------
    BadInput
        A stimulus has no trial.
    """
    missing = sorted(set(stimulus_ids.tolist()) - set(betas.stimulus_ids.tolist()))
    if missing:
        raise BadInput(
            f"{len(missing)} stimuli without a trial, such as {missing[0]}",
            "a measured trial for every reconstruction",
            "Hand in the betas of the test set.",
        )
    return np.stack([betas.values[betas.stimulus_ids == name].mean(0, dtype=np.float64) for name in stimulus_ids])


def _score_roi(
    name: str, predicted: Floats, measured: Floats, mask: NDArray[np.bool_], encoder: BrainEncoder
) -> MetricResult:
    if mask.shape != measured.shape[1:] or mask.dtype != bool or mask.sum() < 3:
        raise BadInput(
            f"ROI {name} of shape {mask.shape} with {int(mask.sum())} voxels",
            f"{measured.shape[1]} truth values, three or more of them true",
            "Leave the ROI out, or give its mask over the voxels of the betas.",
        )
    conditions = Conditions(
        f"{encoder.preprocessing}; betas averaged over repeats; ROI {name}, {int(mask.sum())} voxels",
        network=encoder.name,
        layer=name,
        weights_sha256=encoder.weights_sha256,
    )
    scores = correlate_pairs(predicted[:, mask], measured[:, mask])
    return average("brain_correlation", scores, None, conditions)
