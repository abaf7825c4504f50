"""PixCorr and SSIM as MindEye2 computes them, and the way every published score takes its pictures."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn import functional as F

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.metrics.result import Conditions, MetricResult, average

Floats = NDArray[np.floating[Any]]

COMMON_SIDE = 256
PIXEL_SIDE = 425
FIRST = f"{COMMON_SIDE}x{COMMON_SIDE}"
_AT_ONCE = 32
_TINY = 1e-12


def score_pixels(reconstructed: Floats, seen: Floats) -> MetricResult:
    """Score PixCorr: Pearson's correlation of a reconstruction with its picture over 425 x 425 x 3 numbers.

    A constant picture correlates with nothing: 0.

    Parameters
    ----------
    reconstructed, seen : array (picture, row, column, 3) in [0, 1], in one order, of any two sizes

    Raises
    ------
    BadInput
        The arrays are not such pictures.
    """
    scores = [correlate_pairs(*(_flat(part) for part in pair)) for pair in _pairs(reconstructed, seen)]
    preprocessing = f"{FIRST}, then {PIXEL_SIDE}x{PIXEL_SIDE}, bilinear, no antialiasing; RGB"
    return average("pixel_correlation", np.concatenate(scores), None, Conditions(preprocessing))


def score_structure(reconstructed: Floats, seen: Floats) -> MetricResult:
    """Score SSIM of the grey pictures at 425 x 425 (Wang et al. 2004): Gaussian of sigma 1.5, data range 1.

    Parameters
    ----------
    reconstructed, seen : array (picture, row, column, 3) in [0, 1], in one order, of any two sizes

    Raises
    ------
    BadInput
        The arrays are not such pictures.
    """
    scores = [
        _structure(*pair)
        for first, second in _pairs(reconstructed, seen)
        for pair in zip(_grey(first), _grey(second), strict=True)
    ]
    preprocessing = (
        f"{FIRST}, then {PIXEL_SIDE}x{PIXEL_SIDE}, bilinear, no antialiasing; grey .2125 R + .7154 G + .0721 B"
    )
    return average("ssim", np.asarray(scores), None, Conditions(preprocessing, implementation="scikit-image"))


def correlate_pairs(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Correlate every row with the row of the same number (Pearson).

    Parameters
    ----------
    first, second : array (item, number)

    Returns
    -------
    array (item,), 0 where one of both is constant
    """
    rows, others = (part - part.mean(1, keepdims=True, dtype=np.float64) for part in (first, second))
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    products = np.einsum("ij,ij->i", rows, others)
    safe = norms > _TINY * max(1.0, float(norms.max(initial=0)))
    correlations: NDArray[np.float64] = np.divide(products, norms, out=np.zeros(len(norms)), where=safe)
    return correlations


def check_pictures(pictures: Floats) -> Floats:
    """Return pictures if they are float RGB in [0, 1].

    Raises
    ------
    BadInput
        They are not.
    """
    shape = pictures.shape
    if pictures.ndim != 4 or shape[-1] != 3 or not np.issubdtype(pictures.dtype, np.floating) or not len(pictures):
        raise BadInput(
            f"pictures of shape {shape} and type {pictures.dtype}",
            "(picture, row, column, 3), floating, in [0, 1]",
            "Divide 8-bit pictures by 255; repeat the channel of grey ones.",
        )
    low, high = float(pictures.min()), float(pictures.max())
    if not (low >= 0 and high <= 1):
        raise BadInput(f"pictures from {low} to {high}", "numbers in [0, 1]", "Scale or clip the pictures.")
    return pictures


def take_common_size(pictures: Floats) -> Tensor:
    """Return pictures at 256 x 256, where every published score starts.

    Returns
    -------
    float32 tensor (picture, 3, 256, 256)
    """
    channels_first = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32))
    return resize(channels_first, COMMON_SIDE)


def resize(pictures: Tensor, side: int) -> Tensor:
    """Resize as torchvision 0.15 did by default: bilinear, pixel centres, no antialiasing even where it shrinks.

    Parameters
    ----------
    pictures : tensor (picture, channel, row, column)
    side : pixels of one side of the result
    """
    if pictures.shape[-2:] == (side, side):
        return pictures
    return F.interpolate(pictures, size=(side, side), mode="bilinear", align_corners=False, antialias=False)


def _pairs(reconstructed: Floats, seen: Floats) -> Iterator[tuple[Tensor, Tensor]]:
    check_pictures(reconstructed)
    check_pictures(seen)
    if len(reconstructed) != len(seen):
        raise BadInput(
            f"{len(reconstructed)} reconstructions of {len(seen)} pictures",
            "one reconstruction a picture, in one order",
            "Repeat the picture for each of its reconstructions.",
        )
    for start in range(0, len(seen), _AT_ONCE):
        first, second = (part[start : start + _AT_ONCE] for part in (reconstructed, seen))
        yield resize(take_common_size(first), PIXEL_SIDE), resize(take_common_size(second), PIXEL_SIDE)


def _flat(pictures: Tensor) -> Floats:
    flat: Floats = pictures.flatten(1).numpy()
    return flat


def _grey(pictures: Tensor) -> Floats:
    grey: Floats = rgb2gray(pictures.numpy(), channel_axis=1)
    return grey


def _structure(first: Floats, second: Floats) -> float:
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(first, second, **options))  # type: ignore[no-untyped-call]
