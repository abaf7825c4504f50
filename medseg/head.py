"""Whether an image is a T1-weighted head, and where in it the template's places are."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelight.medseg.register import Registration, move, register_affine
from voxelight.medseg.transforms import resample
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, Volume

_CLOSED_MM, _MARGIN_MM = 3, 6
_SURE = 0.9
_EXPECTED = "a T1-weighted MR image of a head"
_SMALLEST_MM = 30.0
# CT in Hounsfield units: air is at -1000.
_AIR, _AIR_SHARE = (-1300.0, -700.0), 0.02
# Measured: 0.21 and more for heads of any contrast; an abdomen 0.12 in MR and 0.03 in CT, noise below 0.01.
_LEAST_SIMILARITY = 0.17
# White over grey matter: 1.16 to 1.7 in T1; 0.96 to 0.98 in FLAIR, 0.83 in T2, 1.02 in T1 after contrast agent.
_LEAST_CONTRAST = 1.05
_SCALES = (0.7, 1.45)
_LEAST_SEEN = 500  # voxels of 2 mm of each tissue, else nothing can be said of the contrast
_LEAST_HELD = 0.95
_GRID_MM = 2.0


@dataclass(frozen=True, eq=False)
class HeadTemplate:
    """An average head with its tissues.

    Parameters
    ----------
    image : Volume of one channel, T1-weighted, in MNI152 mm
    grey, white : arrays (i, j, k), float, share of the tissue from 0 to 1, on the grid of the image
    """

    image: Volume
    grey: NDArray[np.float32]
    white: NDArray[np.float32]

    @cached_property
    def brain(self) -> NDArray[np.bool_]:
        """The brain with its ventricles, on the grid of the image."""
        closed: NDArray[np.bool_] = ndimage.binary_closing(self.grey + self.white > 0.3, iterations=_CLOSED_MM)
        return closed

    @cached_property
    def compared(self) -> NDArray[np.bool_]:
        """Where heads are compared: the brain and a rim, without the face and the neck that some images lack."""
        wide: NDArray[np.bool_] = ndimage.binary_dilation(self.brain, iterations=_MARGIN_MM)
        return wide


@dataclass(frozen=True, eq=False)
class PlacedHead:
    """A head in the space of the template.

    Parameters
    ----------
    volume : the same voxels, placed in MNI152 mm
    registration : how
    contrast : brightness of white over grey matter
    """

    volume: Volume
    registration: Registration
    contrast: float

    def describe(self) -> dict[str, Any]:
        """Return what provenance keeps of it."""
        return {
            "template": "ICBM 152 nonlinear symmetric 2009a",
            "to_mni152": [[round(float(number), 6) for number in row] for row in self.registration.to_fixed],
            "similarity": round(self.registration.similarity, 4),
            "white_over_grey": round(self.contrast, 4),
        }


def place_head(volume: Volume, template: HeadTemplate) -> PlacedHead:
    """Align a head to the template, and make sure that it is one and T1-weighted.

    Parameters
    ----------
    volume : Volume of one channel, RAS+, of a whole head or most of one, in any tilt up to about 45 degrees
    template : HeadTemplate

    Raises
    ------
    BadInput
        It is flat, a CT, noise, no head, no T1, or too small; the text says which.
    """
    _refuse_before(volume)
    registration = register_affine(volume, template.image, template.compared)
    if registration.similarity < _LEAST_SIMILARITY:
        raise _refused(
            f"an image in which no head was found (likeness to one {registration.similarity:.2f}, "
            f"at least {_LEAST_SIMILARITY})",
            "Check that it shows a head and that its header says where left and up are.",
        )
    scales = np.linalg.svd(registration.to_fixed[:3, :3], compute_uv=False)
    if not (_SCALES[0] <= scales.min() and scales.max() <= _SCALES[1]):
        raise _refused(
            f"an image that fits a head only when stretched {scales.min():.2f} to {scales.max():.2f} times",
            "Check the voxel size in its header, and that it shows a head.",
        )
    placed = move(volume, registration.to_fixed)
    return PlacedHead(placed, registration, _require_contrast(placed, template))


def refuse_cut(placed: Volume, grid: Geometry, what: str) -> None:
    """Refuse a field that cuts off a region of the template.

    Parameters
    ----------
    placed : in the space of the template
    grid : of the region
    what : the region in words, for a person
    """
    held = resample(np.ones_like(placed.array[:1]), placed.geometry, grid)[0] > 0.5
    if held.mean() < _LEAST_HELD:
        raise BadInput(
            f"a field that holds {held.mean():.0%} of the region of the {what}",
            f"at least {_LEAST_HELD:.0%}, so that nothing of it is cut off",
            "Give the whole head; a volume of what is left would be too small.",
        )


def _refuse_before(volume: Volume) -> None:
    """Refuse what needs no registration to be known."""
    array, geometry = volume.array, volume.geometry
    if array.shape[0] != 1:
        raise _refused(f"an image of {array.shape[0]} channels", "Give the T1-weighted one alone.")
    low, high = np.percentile(array, (0.5, 99.5))
    if high - low <= 1e-6 * max(1.0, abs(float(high))):
        raise _refused("a blank image, one value nearly everywhere", "Check that the scan holds signal.")
    if np.mean((array > _AIR[0]) & (array < _AIR[1])) > _AIR_SHARE:
        raise _refused("a CT, whose air lies near -1000 Hounsfield units", "Give the MR image of this person.")
    sides = np.array(geometry.shape) * np.array(geometry.spacing)
    if sides.min() < _SMALLEST_MM:
        raise _refused(
            f"a field of {' x '.join(f'{side:.0f}' for side in sides)} mm, too small for a head",
            "Give the whole head, or use hippocampus-agunet for a crop around one hippocampus.",
        )


def _require_contrast(placed: Volume, template: HeadTemplate) -> float:
    """Return how much brighter white matter is than grey matter; refuse what is no T1."""
    grid = _coarse(template.image.geometry)
    image = resample(placed.array, placed.geometry, grid)[0]
    seen = resample(np.ones_like(placed.array), placed.geometry, grid)[0] > 0.5
    tissues = [
        seen & (resample(share[np.newaxis].astype(np.float32), template.image.geometry, grid)[0] > _SURE)
        for share in (template.grey, template.white)
    ]
    if min(np.count_nonzero(tissue) for tissue in tissues) < _LEAST_SEEN:
        raise _refused("an image that holds too little of the brain", "Give the whole head.")
    grey, white = (float(np.median(image[tissue])) for tissue in tissues)
    contrast = white / grey if grey > 0 else np.inf if white > 0 else 0.0
    if contrast < _LEAST_CONTRAST:
        raise _refused(
            f"an image in which white matter is {contrast:.2f} times as bright as grey matter, as in FLAIR, T2 or CT",
            "Give the T1-weighted image of this person; after contrast agent only where it still shows grey and white.",
        )
    return contrast


def _coarse(geometry: Geometry) -> Geometry:
    factor = _GRID_MM / np.array(geometry.spacing)
    affine = geometry.affine.copy()
    affine[:3, :3] *= factor
    i, j, k = (int(side) for side in np.array(geometry.shape) // factor)
    return Geometry((i, j, k), affine)


def _refused(found: str, remedy: str) -> BadInput:
    return BadInput(found, _EXPECTED, remedy)
