"""Best of N samples, chosen by a brain encoder that shares neither voxels nor trials with the decoder.

Choosing by the picture that was seen would be cheating, and choosing by the decoder's own voxels is agreeing with
oneself. The signal that remains is declared with every result.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.decoders.ridge import RidgeConfig, RidgeDecoder
from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.similarity import correlate
from voxelight.neuro.splits import Labels, Leak, Rows

Floats = NDArray[np.floating[Any]]

_NAMED_AT_MOST = 5


@dataclass(frozen=True, eq=False)
class Signal:
    """What a model was fitted on.

    Parameters
    ----------
    voxels : array (voxel,), their numbers in the whole brain or in one region that both models count alike
    trials : array (trial,), ids of the fitted trials, e.g. session/run/number
    stimuli : array (stimulus,), what was shown in them
    """

    voxels: NDArray[np.intp]
    trials: Labels
    stimuli: Labels


@dataclass(frozen=True, eq=False)
class Best:
    """The chosen samples.

    Parameters
    ----------
    samples : array (item,), number of the chosen sample
    agreement : array (item, sample), correlation of predicted and measured betas over the encoder's voxels
    signal : what the choice was made by, a sentence for the report
    """

    samples: NDArray[np.intp]
    agreement: NDArray[np.float64]
    signal: str


def refuse_shared(decoder: Signal, encoder: Signal, chosen_for: Signal) -> None:
    """Refuse an encoder that knows what the decoder knows, or a trial that either was fitted on.

    Parameters
    ----------
    decoder, encoder : what they were fitted on
    chosen_for : the trials and stimuli that samples are chosen for; its voxels are those of the encoder

    Raises
    ------
    Leak
        Voxels or trials are shared, or a stimulus that is chosen for was fitted on.
    """
    pairs = {
        "voxels of decoder and encoder": (decoder.voxels, encoder.voxels),
        "trials of decoder and encoder": (decoder.trials, encoder.trials),
        "trials of the decoder and those that are chosen for": (decoder.trials, chosen_for.trials),
        "trials of the encoder and those that are chosen for": (encoder.trials, chosen_for.trials),
        "stimuli of the decoder and those that are chosen for": (decoder.stimuli, chosen_for.stimuli),
        "stimuli of the encoder and those that are chosen for": (encoder.stimuli, chosen_for.stimuli),
    }
    for what, (one, other) in pairs.items():
        shared = np.intersect1d(one, other)
        if len(shared):
            told = ", ".join(map(str, shared[:_NAMED_AT_MOST].tolist()))
            raise Leak(
                f"{len(shared)} shared {what}: {told}",
                "none",
                "Fit the encoder on other voxels and other trials than the decoder, and choose for neither's.",
            )
    strange = np.setdiff1d(chosen_for.voxels, encoder.voxels)
    if len(strange):
        raise BadInput(f"{len(strange)} voxels without an encoder", "voxels of the encoder", "Leave them out.")


def fit_encoder(features: Floats, betas: Floats, folds: list[tuple[Rows, Rows]], config: RidgeConfig) -> RidgeDecoder:
    """Fit ridge from features of the pictures that were seen to betas: the decoder's algebra, the other way round.

    Parameters
    ----------
    features : array (trial, feature), e.g. tokens of the pictures, flattened
    betas : array (trial, voxel)
    folds : inner folds that choose the penalty
    config : RidgeConfig
    """
    return config.fit(features, betas, folds)


def choose_best(predicted: Floats, measured: Floats, decoder: Signal, encoder: Signal, chosen_for: Signal) -> Best:
    """Choose for each item the sample whose predicted betas agree most with the measured ones.

    Parameters
    ----------
    predicted : array (item, sample, voxel), what the encoder predicts for each sample
    measured : array (item, voxel), betas of the encoder's voxels in the trials that are chosen for
    decoder, encoder, chosen_for : see `refuse_shared`

    Raises
    ------
    Leak
        As `refuse_shared`.
    BadInput
        Shapes do not fit.
    """
    refuse_shared(decoder, encoder, chosen_for)
    if predicted.ndim != 3 or predicted[:, 0].shape != measured.shape or measured.shape[1] != len(chosen_for.voxels):
        raise BadInput(
            f"predicted betas {predicted.shape} and measured ones {measured.shape} of {len(chosen_for.voxels)} voxels",
            "(item, sample, voxel) and (item, voxel)",
            "Predict every sample for the voxels that were measured.",
        )
    agreement = np.stack(
        [correlate(samples, own[None])[:, 0] for samples, own in zip(predicted, measured, strict=True)]
    )
    signal = (
        f"Best of {predicted.shape[1]} samples, chosen by a brain encoder: correlation of predicted with measured "
        f"betas over {len(encoder.voxels)} voxels that the decoder never saw; encoder fitted on "
        f"{len(encoder.trials)} trials, decoder on {len(decoder.trials)} others."
    )
    return Best(agreement.argmax(1), agreement, signal)
