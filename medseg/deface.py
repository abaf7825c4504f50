"""Take the face out of a head: a plane under the brain, as Quickshear lays it, placed by registration to a template."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from voxelight.medseg.register import register_affine
from voxelight.medseg.transforms import resample
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, Volume

if TYPE_CHECKING:
    from voxelight.medseg.head import HeadTemplate

BUFFER_MM = 6.0  # between the brain of the template and the plane
_BRAIN_MARGIN_MM = 4  # around the brain, within which nothing is ever removed
_LEAST_SIMILARITY = 0.17  # as of a head in `medseg.head`: 0.21 and more for heads of any contrast
_SCALES = (0.7, 1.45)
_LEAST_FACE_ML = 60.0
_AIR_SHARE = 0.15  # of the 99th percentile: darker is air


@dataclass(frozen=True, eq=False)
class Face:
    """Where the face of a head is.

    Parameters
    ----------
    inside : array (i, j, k), bool, on the grid of the head
    millilitres : of it that is no air
    similarity : mutual information with the template, nats
    to_template : array (4, 4), RAS+ mm of the head -> mm of the template
    """

    inside: NDArray[np.bool_]
    millilitres: float
    similarity: float
    to_template: NDArray[np.float64]

    def describe(self) -> dict[str, Any]:
        """Return what is kept of it: numbers."""
        return {"face_ml": round(self.millilitres, 1), "face_similarity": round(self.similarity, 3)}


def find_face(volume: Volume, template: "HeadTemplate") -> Face:
    """Find the face by affine registration to a template, and a plane below and before the brain.

    Everything on the side of the plane that the brain is not on counts as face: nose, mouth, eyes and chin, and the
    front of the neck. What lies within 4 mm of the brain of the template does not, wherever the plane runs.

    Parameters
    ----------
    volume : Volume of one channel, RAS+, a head of any contrast
    template : HeadTemplate

    Returns
    -------
    Face

    Raises
    ------
    BadInput
        No head was found, it fits only when stretched, or there is hardly any tissue where its face should be.

    Notes
    -----
    The plane is that of Quickshear (Schimke and Hale 2011): through the longest edge of the convex hull of the brain,
    seen from the side, that looks down and to the front. Theirs is laid on a brain mask of the image itself.
    """
    registration = register_affine(volume, template.image, template.compared)
    if registration.similarity < _LEAST_SIMILARITY:
        raise _refused(f"an image in which no head was found (likeness {registration.similarity:.2f})")
    scales = np.linalg.svd(registration.to_fixed[:3, :3], compute_uv=False)
    if not (_SCALES[0] <= scales.min() and scales.max() <= _SCALES[1]):
        raise _refused(f"an image that fits a head only when stretched {scales.min():.2f} to {scales.max():.2f} times")
    geometry = volume.geometry
    inside = _beyond(find_plane(template), registration.to_fixed @ geometry.affine, geometry.shape)
    inside &= ~_near_brain(template, registration.to_fixed, geometry)
    tissue = volume.array[0] > _AIR_SHARE * np.percentile(volume.array[0], 99)
    millilitres = float((inside & tissue).sum() * abs(np.linalg.det(geometry.affine[:3, :3])) / 1000)
    if millilitres < _LEAST_FACE_ML:
        raise _refused(f"{millilitres:.0f} ml of tissue where the face should be")
    return Face(inside, millilitres, registration.similarity, registration.to_fixed)


def find_plane(template: "HeadTemplate") -> NDArray[np.float64]:
    """Return the plane under the brain of a template.

    Returns
    -------
    array (4,): normal that looks down and to the front, of unit length, and offset; mm of the template.
        A point p is beyond it where ``normal @ p > offset``.
    """
    geometry = template.image.geometry
    seen = np.argwhere(template.brain.any(axis=0))  # from the side: (j, k)
    points = seen @ geometry.affine[1:3, 1:3].T + geometry.affine[1:3, 3]
    hull = ConvexHull(points)
    ends = points[hull.simplices]
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    normals = hull.equations[:, :2]
    # Edges of one line come in pieces; they count together.
    _, groups = np.unique(np.round(normals, 3), axis=0, return_inverse=True)
    totals = np.bincount(groups.ravel(), weights=lengths)[groups.ravel()]
    fitting = (normals[:, 0] > 0.2) & (normals[:, 1] < -0.2)
    best = int(np.argmax(np.where(fitting, totals, -1)))
    y, z, offset = hull.equations[best]
    return np.array([0.0, y, z, -offset + BUFFER_MM])


def _beyond(plane: NDArray[np.float64], to_template: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which voxels lie beyond a plane of the template: linear in the voxel's place, so nothing is resampled."""
    normal = plane[:3] @ to_template[:3, :3]
    offset = plane[3] - plane[:3] @ to_template[:3, 3]
    i, j, k = (np.arange(side) * step for side, step in zip(shape, normal, strict=True))
    beyond: NDArray[np.bool_] = (i[:, None, None] + j[None, :, None] + k[None, None, :]) > offset
    return beyond


def _near_brain(template: "HeadTemplate", to_fixed: NDArray[np.float64], geometry: Geometry) -> NDArray[np.bool_]:
    wide = ndimage.binary_dilation(template.brain, iterations=_BRAIN_MARGIN_MM)[np.newaxis].astype(np.float32)
    placed = Geometry(geometry.shape, to_fixed @ geometry.affine)
    near: NDArray[np.bool_] = resample(wide, template.image.geometry, placed)[0] > 0.25
    return near


def _refused(found: str) -> BadInput:
    return BadInput(
        found, "a whole head with its face", "Look at it: release it if no face can be seen, else remove it."
    )


_DRAWN_MM = 1.5


def draw_heads(before: Volume, after: Volume) -> NDArray[np.uint8]:
    """Draw a head before and after: its surface from the front and from the left, and its middle sagittal plane.

    Parameters
    ----------
    before, after : Volume of one channel on one grid, RAS+

    Returns
    -------
    array (row, column, 3), uint8: one row of three pictures each. The first row shows the face.
    """
    grid = _even_grid(before.geometry)
    heads = [resample(volume.array, volume.geometry, grid)[0] for volume in (before, after)]
    bright = max(float(np.percentile(heads[0], 99.5)), 1e-6)
    rows = []
    for head in heads:
        solid = ndimage.gaussian_filter(head, 1.0) > _AIR_SHARE * float(np.percentile(heads[0], 99))
        middle = np.clip(head[head.shape[0] // 2] / bright, 0, 1) * 255
        views = (_shade(solid[:, ::-1], 1), _shade(solid, 0), middle)
        rows.append(np.hstack([np.pad(np.flipud(view.T), ((0, 0), (0, 6))) for view in views]))
    grey = np.vstack([np.pad(row, ((0, 6), (0, 0))) for row in rows]).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def _shade(solid: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Shade the surface that is seen along an axis, lit from above."""
    seen = solid.any(axis=axis)
    depth = np.where(seen, solid.argmax(axis=axis), solid.shape[axis]).astype(float)
    across, up = np.gradient(ndimage.gaussian_filter(depth, 1.0))
    light = (1 + 0.6 * up - 0.3 * across) / np.sqrt(1 + across**2 + up**2)
    shaded: NDArray[np.float64] = np.clip(light / 1.3, 0.05, 1) * 255 * seen
    return shaded


def _even_grid(geometry: Geometry) -> Geometry:
    """Return a grid of even steps along the axes of a volume, over the same field."""
    spacing = np.array(geometry.spacing)
    i, j, k = (max(1, round(side * step / _DRAWN_MM)) for side, step in zip(geometry.shape, spacing, strict=True))
    affine = geometry.affine.copy()
    affine[:3, :3] *= _DRAWN_MM / spacing
    return Geometry((i, j, k), affine)
