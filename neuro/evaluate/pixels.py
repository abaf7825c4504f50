"""Scores of pictures that need no network, each with what it means."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import metrics, transform

from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.controls import Places
from voxelight.neuro.evaluate.evaluation import MetricFacts
from voxelight.neuro.evaluate.similarity import METRICS, correlate

Floats = NDArray[np.floating[Any]]

SIDE = 64  # to which pictures are brought, pixels
_LUMA = np.array([0.2125, 0.7154, 0.0721])
_RATINGS = "Agreement with people: SEED (2026)."


def describe_pixels(native: bool) -> tuple[MetricFacts, ...]:
    """Return what two_way, pixel_correlation and ssim mean.

    Parameters
    ----------
    native : see `compare_pixels`
    """
    grid = "at the pixels of the decoder" if native else f"RGB at {SIDE} px"
    return (
        MetricFacts(
            "two_way",
            "Two-way identification by pixels",
            chance=0.5,
            note=f"Share of the other pictures that correlate less with the prediction, {grid}.",
        ),
        MetricFacts(
            "pixel_correlation",
            "Pixel correlation",
            validity=0.12,
            note=f"Pearson, {grid}; published at 425 px. It rewards blur. {_RATINGS}",
        ),
        MetricFacts(
            "ssim",
            "Structural similarity",
            validity=0.11,
            note=f"In grey at {SIDE} px; published at 425 px. It rewards blur: of a blurred picture it may be larger "
            f"than of what a generator makes of the true latents. No null. {_RATINGS}",
        ),
    )


def compare_pixels(pictures: Floats, shown: Floats, native: bool = False) -> Compared:
    """Correlate samples of every picture with every picture of the gallery.

    Parameters
    ----------
    pictures : array (seed, item, row, column, channel), one or three channels
    shown : array (item, row, column, channel), what was seen, and the gallery at the same time
    native : whether pixels are correlated as they are, for pictures that lie on the grid of what was seen; else both
        are brought to `SIDE`

    Returns
    -------
    Compared, two_way and pixel_correlation
    """
    found = [correlate(each, shown) if native else correlate(bring(each), bring(shown)) for each in pictures]
    return Compared(dict.fromkeys(METRICS, np.stack(found)), METRICS)


def score_structure(pictures: Floats, shown: Floats, orders: Sequence[Places] = ()) -> dict[str, Floats]:
    """Return ssim -> array (seed, item): see `compare_structure`; of exchanged predictions where `orders` are given."""
    gallery, own = bring(shown), [np.arange(len(shown))]
    brought = [bring(each) for each in pictures]
    return {"ssim": np.stack([compare_structure(each[order], gallery) for order in orders or own for each in brought])}


def bring(pictures: Floats) -> NDArray[np.float32]:
    """Return pictures in [0, 1] as RGB of `SIDE` pixels, low-pass filtered where they shrink."""
    if pictures.shape[1:] == (SIDE, SIDE, 3):
        return np.clip(pictures, 0, 1).astype(np.float32)
    shape = (SIDE, SIDE, pictures.shape[3])
    resize: Any = transform.resize
    small = np.stack([resize(each, shape, order=1, anti_aliasing=True) for each in np.clip(pictures, 0, 1)])
    brought: NDArray[np.float32] = np.broadcast_to(small, (*small.shape[:3], 3)).astype(np.float32)
    return brought


def compare_structure(pictures: Floats, shown: Floats) -> Floats:
    """Return the structural similarity of pictures to what was seen: array (item,).

    In grey, Gaussian window of sigma 1.5, population covariance, data range 1 (Wang et al. 2004, eq. 13).

    Parameters
    ----------
    pictures, shown : array (item, row, column, 3) in [0, 1], sides of 11 pixels or more
    """
    similar: Any = metrics.structural_similarity
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return np.array([similar(a, b, **options) for a, b in zip(pictures @ _LUMA, shown @ _LUMA, strict=True)])
