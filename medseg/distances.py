"""How far two surfaces are apart, each element weighed by its area (Nikolov et al. 2021, surface Dice)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from monai.metrics.utils import create_table_neighbour_code_to_surface_area
from numpy.typing import NDArray
from scipy import ndimage

Spacing = tuple[float, float, float]
_CORNERS = np.array([[[128, 64], [32, 16]], [[8, 4], [2, 1]]], dtype=np.uint8)
_INSIDE = 255


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances from the elements of each surface to the other surface, the nearest first.

    Parameters
    ----------
    to_reference, to_found : arrays, mm
    found_areas, reference_areas : area of each of these elements, mm2
    """

    to_reference: NDArray[np.float64]
    to_found: NDArray[np.float64]
    found_areas: NDArray[np.float64]
    reference_areas: NDArray[np.float64]

    def surface_dice(self, tolerance_mm: float) -> float:
        """Return the share of both surfaces that lies within a tolerance of the other: normalised surface distance."""
        near = self.found_areas[self.to_reference <= tolerance_mm].sum()
        near += self.reference_areas[self.to_found <= tolerance_mm].sum()
        return float(near / (self.found_areas.sum() + self.reference_areas.sum()))

    def hausdorff(self, percent: float = 95.0) -> float:
        """Return the larger of the two distances, mm, within which this share of a surface lies."""
        return max(
            _find_percentile(self.to_reference, self.found_areas, percent),
            _find_percentile(self.to_found, self.reference_areas, percent),
        )


def measure_surfaces(found: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Spacing) -> SurfaceDistances:
    """Measure how far the surfaces of two regions are apart.

    Parameters
    ----------
    found, reference : array (i, j, k), neither empty
    spacing : voxel size (i, j, k), mm

    Returns
    -------
    SurfaceDistances
    """
    [box] = ndimage.find_objects((found | reference).astype(np.uint8))
    areas = _find_areas(spacing)
    codes = [_encode(np.pad(each[box], ((0, 1),) * 3)) for each in (found, reference)]
    borders = [(code != 0) & (code != _INSIDE) for code in codes]
    maps = [ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders]
    to_reference, found_areas = _sort(maps[1][borders[0]], areas[codes[0][borders[0]]])
    to_found, reference_areas = _sort(maps[0][borders[1]], areas[codes[1][borders[1]]])
    return SurfaceDistances(to_reference, to_found, found_areas, reference_areas)


def _encode(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return for each corner between voxels which of the eight around it are inside, a bit each."""
    code: NDArray[np.uint8] = ndimage.correlate(inside.astype(np.uint8), _CORNERS, mode="constant", cval=0)
    return code


@lru_cache(maxsize=32)
def _find_areas(spacing: Spacing) -> NDArray[np.float64]:
    table, _ = create_table_neighbour_code_to_surface_area(spacing)  # type: ignore[no-untyped-call]
    areas: NDArray[np.float64] = table.double().numpy()
    return areas


def _sort(distances: NDArray[Any], areas: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    order = np.argsort(distances, kind="stable")
    return distances[order], areas[order]


def _find_percentile(distances: NDArray[np.float64], areas: NDArray[np.float64], percent: float) -> float:
    share = np.cumsum(areas) / areas.sum()
    return float(distances[min(int(np.searchsorted(share, percent / 100)), len(distances) - 1)])
