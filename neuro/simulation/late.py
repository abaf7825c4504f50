"""Late voxels: features of an encoder that is handed in, mixed by the subject's own weights."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound, Refused
from voxelight.models.values import ClipTokens, Stimuli

Floats = NDArray[np.floating[Any]]

_COMPRESSION = 0.7
_DIMENSIONS = 128  # of what the late voxels of all subjects share, at most
_SPECTRUM = -0.5  # of the k-th dimension's standard deviation: its variance falls as 1/k
_LARGEST = 16_384  # features that weights are drawn for


@dataclass(frozen=True)
class Encoder:
    """What late voxels respond to.

    Parameters
    ----------
    name : model and layer, written into every result
    encode : Stimuli -> array (picture, feature, ...)
    """

    name: str
    encode: Callable[[Stimuli], Floats]

    def __call__(self, stimuli: Stimuli) -> Floats:
        """Return the features of pictures as float64: array (picture, feature)."""
        features = np.asarray(self.encode(stimuli), dtype=np.float64)
        if len(features) != len(stimuli.ids) or not np.isfinite(features).all():
            raise BadInput(
                f"features of shape {features.shape} from {self.name} for {len(stimuli.ids)} pictures",
                "one row of finite numbers a picture",
                "Mend the encoder.",
            )
        return features.reshape(len(features), -1)


def features_by_id(name: str, values: Floats, ids: NDArray[np.str_]) -> Encoder:
    """Make an encoder of features that were computed before: it looks pictures up by their id.

    Parameters
    ----------
    name : model and layer
    values : array (item, ...), which may lie on disk
    ids : array (item,), the picture of each

    Raises
    ------
    BadInput
        There is not one id an item, or one stands twice.
    """
    place = {item: row for row, item in enumerate(ids.tolist())}
    if not len(place) == len(ids) == len(values):
        raise BadInput(
            f"{len(ids)} ids, {len(place)} of them distinct, for {len(values)} rows of {name}",
            "one id each, none twice",
            "Name every picture once.",
        )

    def encode(stimuli: Stimuli) -> Floats:
        missing = [item for item in stimuli.ids.tolist() if item not in place]
        if missing:
            raise NotFound(
                f"{name} without {len(missing)} pictures, {missing[0]} for one",
                "a row for every picture that is shown or that responses are standardised on",
                "Compute them.",
            )
        return np.asarray(values[[place[item] for item in stimuli.ids.tolist()]])

    return Encoder(name, encode)


def tokens_by_id(tokens: ClipTokens, ids: NDArray[np.str_]) -> Encoder:
    """Make an encoder of a decoder's own tokens, named by their space: `features_by_id` of them."""
    return features_by_id(tokens.space, tokens.values, ids)


def refuse_circular(encoder: str, target: str, judges: Iterable[str]) -> None:
    """Refuse a headline on mismatched subjects whose encoding network is also the target or a judge.

    Parameters
    ----------
    encoder : name of the network that made the late voxels
    target : space that the decoder predicts
    judges : names of the networks that score its pictures

    Raises
    ------
    Refused
        The encoding network is one of them.
    """
    if encoder in {target, *judges}:
        raise Refused(
            f"subjects whose late voxels were made by {encoder}, which the decoder predicts or is scored by",
            "an encoding network that is neither target nor judge",
            "Report it as an oracle check (matched), or simulate with another encoder.",
        )


@dataclass(frozen=True, eq=False)
class LateVoxels:
    """Linear weights on the features of an encoder.

    Parameters
    ----------
    encoder : Encoder
    offset : array (feature,), what is subtracted first
    weights : array (feature, voxel), float32
    exponent : of sign(d) |d|^exponent; 1 is linear
    """

    encoder: Encoder
    offset: Floats
    weights: NDArray[np.float32]
    exponent: float

    def respond(self, features: Floats) -> NDArray[np.float32]:
        """Return the responses to the features of pictures, array (picture, feature): array (picture, voxel)."""
        drive: NDArray[np.float32] = (features - self.offset).astype(np.float32) @ self.weights
        return drive if self.exponent == 1 else np.sign(drive) * np.abs(drive) ** np.float32(self.exponent)


def draw_linear_voxels(count: int, encoder: Encoder, features: Floats, random: np.random.Generator) -> LateVoxels:
    """Draw voxels that are linear in the features, each a random weighting of the standardised ones (matched kind).

    Parameters
    ----------
    count : voxels
    encoder : Encoder
    features : array (picture, feature) of a sample, which gives means and deviations
    random : generator
    """
    _refuse_large(encoder, features)
    std = features.std(0)
    scale = 1 / (np.where(std > 0, std, np.inf) * np.sqrt(features.shape[1]))
    weights = random.standard_normal((features.shape[1], count), dtype=np.float32) * scale[:, None].astype(np.float32)
    return LateVoxels(encoder, features.mean(0), weights, 1)


def draw_mixed_voxels(count: int, encoder: Encoder, features: Floats, random: np.random.Generator) -> LateVoxels:
    """Draw compressive voxels that mix the principal components of the features (mismatched kind).

    The components are scaled so that the variance of the k-th falls as 1/k: an assumption about late cortex, after the
    power law of Stringer et al. (2019), Nature 571:361, in visual cortex of the mouse.

    Parameters
    ----------
    count : voxels
    encoder : Encoder
    features : array (picture, feature) of a sample, which gives the components
    random : generator
    """
    _refuse_large(encoder, features)
    mean, std = features.mean(0), features.std(0)
    scale = np.where(std > 0, 1 / np.where(std > 0, std, 1), 0)
    _, lengths, axes = np.linalg.svd((features - mean) * scale, full_matrices=False)
    kept = min(_DIMENSIONS, max(1, len(features) // 4), int((lengths > 1e-6 * lengths[0]).sum()))
    # A component has no sign of its own; without this, two machines could make two subjects of one seed.
    axes = axes[:kept] * np.sign(axes[np.arange(kept), np.abs(axes[:kept]).argmax(1)])[:, None]
    spread = np.arange(1, kept + 1) ** _SPECTRUM * np.sqrt(len(features)) / lengths[:kept]
    weights = (scale[:, None] * axes.T * spread) @ random.normal(size=(kept, count))
    return LateVoxels(encoder, mean, weights.astype(np.float32), _COMPRESSION)


def _refuse_large(encoder: Encoder, features: Floats) -> None:
    if features.shape[1] > _LARGEST:
        raise BadInput(
            f"{features.shape[1]} features from {encoder.name}",
            f"at most {_LARGEST}, so that weights of every voxel fit into memory",
            "Pool tokens or channels first, and name what you did.",
        )
