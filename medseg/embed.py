"""A vector of unit length for a case, by which similar cases are found; no network takes part."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Geometry

CASE_DIM = 200
_BINS, _SIZES, _PLACES = 64, 8, 128
_PERCENTILES = (0.5, 99.5)


def describe_case(
    image: NDArray[np.floating[Any]], geometry: Geometry, volumes_ml: Mapping[str, float] | None = None
) -> NDArray[np.float32]:
    """Describe a case by the histogram of its intensities, its extent, and the volumes of its labels.

    The histogram has 64 bins between the 0.5th and 99.5th percentile, square roots taken (Hellinger); the extent is
    ln(1 + mm) of each side and of each spacing; each label's ln(1 + ml) stands at a place hashed from its name. The
    three parts have weights 1, 1/2 and, where there are labels, 1.

    Parameters
    ----------
    image : array (i, j, k), intensities; a thinned copy will do
    geometry : of the whole image
    volumes_ml : label -> ml

    Returns
    -------
    array (200,), unit length
    """
    values = image[np.isfinite(image)]
    low, high = np.percentile(values, _PERCENTILES) if values.size else (0.0, 0.0)
    counts, _ = np.histogram(values.clip(low, high), bins=_BINS, range=(low, high if high > low else low + 1))
    histogram = np.sqrt(counts / max(1, counts.sum()))
    sides = np.multiply(geometry.shape, geometry.spacing)
    size = np.zeros(_SIZES)
    size[:6] = np.log1p([*sides, *geometry.spacing])
    labels = np.zeros(_PLACES)
    for name, volume in (volumes_ml or {}).items():
        digest = int.from_bytes(hashlib.blake2b(name.casefold().encode(), digest_size=8).digest(), "little")
        labels[digest % _PLACES] += np.log1p(max(0.0, volume))
    parts = [_scaled(histogram, 1), _scaled(size, 0.5), _scaled(labels, 1)]
    return _scaled(np.concatenate(parts), 1).astype(np.float32)


def _scaled(part: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    now = float(np.linalg.norm(part))
    return part * (length / now) if now > 0 else part
