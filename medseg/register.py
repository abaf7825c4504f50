"""Bring images into one space: a head to a template by an affine map, contrasts of one study by a rigid one."""

# mypy: disable-error-code="no-untyped-call"
# SimpleITK is typed in part

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
import SimpleITK as sitk  # noqa: N813, the name its own documents give it
from numpy.typing import NDArray

from voxelight.medseg.transforms import resample
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, Volume

Affine = NDArray[np.float64]
Linear = TypeVar("Linear", sitk.Euler3DTransform, sitk.Similarity3DTransform, sitk.AffineTransform)
_BINS = 32
_COARSE_MM, _MIDDLE_MM, _FINE_MM = 8.0, 4.0, 2.0
_TILTS_DEG = (-30.0, -15.0, 0.0, 15.0, 30.0)
_SHIFTS_MM = (-40.0, -20.0, 0.0, 20.0)  # a field with a neck has its centre below that of the brain
_SHARE = 0.2  # of the voxels of the finest grid, every fifth
_STARTS = 4  # of the best placements, which are refined


@dataclass(frozen=True, eq=False)
class Registration:
    """How one image lies in the space of another.

    Parameters
    ----------
    to_fixed : array (4, 4), RAS+ mm of the moving image -> RAS+ mm of the fixed one
    similarity : Mattes mutual information inside the mask, nats; higher is better
    """

    to_fixed: Affine
    similarity: float


def register_affine(moving: Volume, fixed: Volume, mask: NDArray[np.bool_]) -> Registration:
    """Find the affine map from one head to another, for any tilt up to about 45 degrees.

    Placements on a coarse grid of tilts and heights are compared, the best of them refined by a similarity, and the
    best of those by an affine map; each time the mutual information of Mattes et al. (2003) inside the mask is
    maximised. The same images give the same map.

    Parameters
    ----------
    moving, fixed : Volume; their first channels are compared
    mask : array (i, j, k), bool, on the grid of `fixed`
        Where the two should agree: the brain, and nothing that a defaced head lacks.

    Returns
    -------
    Registration

    Raises
    ------
    BadInput
        The images have nothing in common that could be aligned.
    """
    coarse, middle, fine = ((_on_grid(moving, mm), *_fixed_on_grid(fixed, mask, mm))
                            for mm in (_COARSE_MM, _MIDDLE_MM, _FINE_MM))  # fmt: skip
    starts = _rank_starts(*coarse)
    found = [_refine(*coarse, start) for start in starts]
    best = min(found, key=lambda each: each[1])[0]
    affine, _ = _refine(*middle, _copy(best, sitk.AffineTransform(3)))
    affine, value = _refine(*fine, affine, iterations=60, share=_SHARE)
    return Registration(_inverse(affine), -value)


def register_rigid(moving: Volume, fixed: Volume) -> Registration:
    """Find the rotation and shift from one image of a person to another of the same visit.

    Parameters
    ----------
    moving, fixed : Volume; they may be of different contrasts, and should overlap by their headers

    Returns
    -------
    Registration

    Raises
    ------
    BadInput
        The fields do not overlap.
    """
    mask = np.ones(fixed.geometry.shape, dtype=bool)
    transform = sitk.Euler3DTransform()
    transform.SetCenter(_centre(fixed.geometry).tolist())
    value = 0.0
    for mm in (_MIDDLE_MM, _FINE_MM):
        share = _SHARE if mm == _FINE_MM else 1.0
        transform, value = _refine(_on_grid(moving, mm), *_fixed_on_grid(fixed, mask, mm), transform, share=share)
    return Registration(_inverse(transform), -value)


def move(volume: Volume, to_space: Affine) -> Volume:
    """Return a volume as it lies in another space; its voxels stay as they are."""
    return Volume(volume.array, Geometry(volume.geometry.shape, to_space @ volume.geometry.affine))


def correct_bias(volume: Volume, shrink: int = 4, iterations: Sequence[int] = (50, 50, 30, 20)) -> Volume:
    """Take out the slow change of brightness that coils leave (N4, Tustison et al. 2010), inside the head.

    Parameters
    ----------
    volume : Volume of one channel, as MR measured it
    shrink : every n-th voxel is looked at; the field is applied to all
    iterations : at most, on each level

    Raises
    ------
    BadInput
        The image is flat, or has several channels.
    """
    array = volume.array
    if array.shape[0] != 1 or array.max() <= array.min():
        raise BadInput(
            f"an image of {array.shape[0]} channels from {array.min():g} to {array.max():g}",
            "one contrast with tissue in it",
            "Give one MR contrast.",
        )
    image = _as_image(np.maximum(array[0], 0), volume.geometry)
    head = sitk.OtsuThreshold(image, 0, 1, 200)
    factors = [min(shrink, max(1, side // 8)) for side in image.GetSize()]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(list(iterations))
    corrector.Execute(sitk.Shrink(image, factors), sitk.Shrink(head, factors))
    field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)).transpose(2, 1, 0)
    return Volume((array / np.exp(field)).astype(np.float32), volume.geometry)


def _rank_starts(moving: sitk.Image, fixed: sitk.Image, mask: sitk.Image) -> list[sitk.Similarity3DTransform]:
    """Return the placements that look best before any refinement, best first."""
    target, source = _bright_centre(fixed, mask), _bright_centre(moving)
    method = _method(moving, mask)
    tried: list[tuple[float, int, sitk.Euler3DTransform]] = []
    for tilt, height in product(product(_TILTS_DEG, repeat=3), _SHIFTS_MM):
        start = sitk.Euler3DTransform()
        start.SetCenter(target.tolist())
        start.SetRotation(*np.deg2rad(tilt).tolist())
        start.SetTranslation((source - target - np.array([0, 0, height])).tolist())
        method.SetInitialTransform(start)
        try:
            tried.append((method.MetricEvaluate(fixed, moving), len(tried), start))
        except RuntimeError:  # no overlap
            continue
    if not tried:
        raise BadInput("two images without overlap", "images of one part of the body", "Check the two images.")
    return [
        _copy(start, sitk.Similarity3DTransform()) for _, _, start in sorted(tried, key=lambda each: each[:2])[:_STARTS]
    ]


def _copy(source: sitk.Euler3DTransform | sitk.Similarity3DTransform, target: Linear) -> Linear:
    """Give a transform of more freedom the rotation, scale and shift of another."""
    target.SetCenter(source.GetCenter())
    target.SetMatrix(source.GetMatrix())
    target.SetTranslation(source.GetTranslation())
    return target


def _refine(
    moving: sitk.Image,
    fixed: sitk.Image,
    mask: sitk.Image,
    start: Linear,
    iterations: int = 120,
    share: float = 1.0,
) -> tuple[Linear, float]:
    method = _method(moving, mask)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=iterations, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    if share < 1:
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(share)
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        raise BadInput(
            "two images that share too little to be aligned", "images of one part of the body", "Check the two images."
        ) from error
    return start, float(method.GetMetricValue())


def _method(moving: sitk.Image, mask: sitk.Image) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in one order: the same images give the same map
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _on_grid(volume: Volume, spacing_mm: float) -> sitk.Image:
    """Read a volume on a grid along the axes of the world, as ITK wants it, whatever its own axes are."""
    grid = _world_grid(volume.geometry, spacing_mm)
    return _as_image(resample(volume.array[:1], volume.geometry, grid)[0], grid)


def _fixed_on_grid(fixed: Volume, mask: NDArray[np.bool_], spacing_mm: float) -> tuple[sitk.Image, sitk.Image]:
    grid = _world_grid(fixed.geometry, spacing_mm)
    inside = resample(mask[np.newaxis].astype(np.float32), fixed.geometry, grid)[0] > 0.5
    return _on_grid(fixed, spacing_mm), _as_image(inside.astype(np.uint8), grid)


def _world_grid(geometry: Geometry, spacing_mm: float) -> Geometry:
    corners = np.array(list(product(*((-0.5, side - 0.5) for side in geometry.shape))))
    at = corners @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    low, high = at.min(axis=0), at.max(axis=0)
    i, j, k = (int(side) for side in np.maximum(4, np.ceil((high - low) / spacing_mm)))
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (low + high) / 2 - spacing_mm * (np.array([i, j, k]) - 1) / 2
    return Geometry((i, j, k), affine)


def _as_image(array: NDArray[np.float32] | NDArray[np.uint8], geometry: Geometry) -> sitk.Image:
    """Make an ITK image whose physical space is RAS+ mm; directions are left out where the axes are sheared."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.affine[:3, 3].tolist())
    axes = geometry.affine[:3, :3] / np.array(geometry.spacing)
    if np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
        image.SetDirection(axes.ravel().tolist())
    return image


def _bright_centre(image: sitk.Image, mask: sitk.Image | None = None) -> NDArray[np.float64]:
    """Return where the middle of what is bright lies, mm."""
    array = sitk.GetArrayViewFromImage(image)
    inside = sitk.GetArrayViewFromImage(mask) > 0 if mask else array > array.mean()
    if not inside.any():
        raise BadInput("an image that is one flat value", "a head in it", "Check that the scan holds signal.")
    middle = np.argwhere(inside).mean(axis=0)[::-1]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(middle.tolist()))


def _centre(geometry: Geometry) -> NDArray[np.float64]:
    middle: NDArray[np.float64] = (
        geometry.affine[:3, :3] @ ((np.array(geometry.shape) - 1) / 2) + geometry.affine[:3, 3]
    )
    return middle


def _inverse(transform: sitk.Transform) -> Affine:
    """Return the way back through a linear transform, as a matrix (4, 4)."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.TransformPoint(np.eye(3)[axis].tolist())) - origin
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
