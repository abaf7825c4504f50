"""The surface of a label as triangles, for printing, planning and viewers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from voxelight.models.values import LabelMap

_SMOOTH = 0.7  # deviation in voxels: takes the steps off, and keeps what is three voxels wide
_MARGIN = 3


@dataclass(frozen=True, eq=False)
class Surface:
    """A closed surface.

    Parameters
    ----------
    name : of the label
    number : of the label
    vertices : array (vertex, 3), float32, RAS+ mm
    faces : array (face, 3), int32, counter-clockwise seen from outside
    """

    name: str
    number: int
    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]

    @property
    def volume_ml(self) -> float:
        """The enclosed volume, by the sum of signed tetrahedra."""
        a, b, c = (self.vertices[self.faces[:, corner]].astype(np.float64) for corner in range(3))
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6000)


def make_surfaces(label_map: LabelMap) -> list[Surface]:
    """Return the surface of every label that has a voxel.

    Marching cubes (Lewiner et al. 2003) on the label smoothed a little, at the level above which as many voxels lie as
    the label has, so that the volume stays that of the voxels.

    Parameters
    ----------
    label_map : LabelMap
    """
    return [
        surface
        for number, name in sorted(label_map.names.items())
        if (surface := _make(label_map, number, name)) is not None
    ]


def _make(label_map: LabelMap, number: int, name: str) -> Surface | None:
    boxes = ndimage.find_objects((label_map.array == number).astype(np.uint8))
    if not boxes:
        return None
    box = boxes[0]
    mask = np.pad(label_map.array[box] == number, _MARGIN)
    field = ndimage.gaussian_filter(mask.astype(np.float32), _SMOOTH)
    vertices, faces, _, _ = marching_cubes(field, _find_level(field, int(mask.sum())))  # type: ignore[no-untyped-call]
    start = np.array([side.start - _MARGIN for side in box])
    affine = label_map.geometry.affine
    placed = (vertices + start) @ affine[:3, :3].T + affine[:3, 3]
    if np.linalg.det(affine[:3, :3]) > 0:  # marching cubes turns its triangles inwards where the field is higher inside
        faces = faces[:, ::-1]
    surface = Surface(name, number, placed.astype(np.float32), np.ascontiguousarray(faces, dtype=np.int32))
    return surface if surface.volume_ml > 0 else Surface(name, number, surface.vertices, surface.faces[:, ::-1].copy())


def _find_level(field: NDArray[np.float32], voxels: int) -> float:
    """Return the level between the values of the last voxel inside and the first one outside."""
    ordered = np.partition(field.ravel(), (field.size - voxels - 1, field.size - voxels))
    low, high = float(ordered[field.size - voxels - 1]), float(ordered[field.size - voxels])
    level = (low + high) / 2
    return level if level > 0 else float(field.max()) / 2
