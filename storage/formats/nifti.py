"""NIfTI images: RAS+ inside, the original grid and orientation outside."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.formats.label_names import encode_extension
from voxelight.storage.formats.nifti_header import MAX_BYTES, NiftiHeader, SourceGrid, opened, read_header
from voxelight.storage.formats.streams import replacing

__all__ = [
    "MAX_BYTES",
    "SourceGrid",
    "read_label_map",
    "read_mask",
    "read_series",
    "read_source_grid",
    "read_volume",
    "write_label_map",
]

RAS = np.array([[0, 1], [1, 1], [2, 1]])
_INTENT_LABEL = 1002
_SLAB_VOXELS = 1 << 21


def read_source_grid(path: Path) -> SourceGrid:
    """Read where the voxels lie, from the header alone.

    Raises
    ------
    BadInput
        The file is no NIfTI image, or its header is impossible.
    """
    return read_header(path).grid


def read_volume(path: Path, max_bytes: int = MAX_BYTES) -> Volume:
    """Read one 3-D image, axes turned to RAS+.

    Parameters
    ----------
    path : ``.nii`` or ``.nii.gz``
    max_bytes : limit of the voxels in memory, bytes

    Returns
    -------
    Volume
        array (1, i, j, k), float32

    Raises
    ------
    BadInput
        The file is no intact NIfTI image of one volume, or holds NaN or infinity.
    """
    with opened(path, max_bytes) as (header, voxels):
        _refuse_series(path, header)
        array = turn(np.asanyarray(voxels, dtype=np.float32), header.grid)
    geometry = header.grid.geometry
    _refuse_non_finite(path, array)
    return Volume(array[np.newaxis].astype(np.float32, copy=False), geometry)


def read_label_map(path: Path, names: dict[int, str]) -> LabelMap:
    """Read a segmentation, axes turned to RAS+.

    Parameters
    ----------
    path : ``.nii`` or ``.nii.gz``
    names : label number -> name, background (0) left out

    Raises
    ------
    BadInput
        The file is no intact NIfTI image of one volume, or holds a value that is no named label number.
    """
    with opened(path) as (header, voxels):
        _refuse_series(path, header)
        array = turn(np.asanyarray(voxels), header.grid)
    return name_labels(array, header.grid.geometry, names, path.name)


def name_labels(array: NDArray[Any], geometry: Geometry, names: dict[int, str], file: str) -> LabelMap:
    """Return voxels as a segmentation.

    Parameters
    ----------
    array : (i, j, k), axes turned to RAS+, of any kind of number
    geometry : of the array
    names : label number -> name, background (0) left out
    file : where the voxels come from

    Raises
    ------
    BadInput
        A value is no named label number.
    """
    two_bytes = max(names, default=0) >= 2**8
    numbers = (array >= 0) & (array < 2 ** (16 if two_bytes else 8)) & (array == np.rint(array))
    wrong = array.size - int(np.count_nonzero(numbers))
    if wrong:
        raise BadInput(
            f"{file} with {wrong} voxels that are no label number, from {array.min():g} to {array.max():g}",
            f"0 and {sorted(names)}",
            "Give the segmentation and not the image or a probability map; resample labels with nearest neighbour.",
        )
    labels: NDArray[np.uint8] | NDArray[np.uint16]
    labels = array.astype(np.uint16) if two_bytes else array.astype(np.uint8)
    return LabelMap(labels, geometry, names)


def read_mask(path: Path) -> tuple[NDArray[np.bool_], Geometry]:
    """Read a region of interest: the voxels above zero, axes turned to RAS+.

    Returns
    -------
    array (i, j, k), bool
    Geometry

    Raises
    ------
    BadInput
        The file is no intact NIfTI image of one volume, holds fractions, or marks no voxel.
    """
    with opened(path) as (header, voxels):
        _refuse_series(path, header)
        array = turn(np.asanyarray(voxels), header.grid)
    _refuse_non_finite(path, array)
    fractions = int(np.count_nonzero(array != np.rint(array)))
    if fractions:
        raise BadInput(
            f"{path.name} with {fractions} fractional values, from {array.min():g} to {array.max():g}",
            "a mask of whole numbers, above 0 inside the region",
            "Threshold the probability map first, and resample masks with nearest neighbour.",
        )
    inside = array > 0
    if not inside.any():
        raise BadInput(f"{path.name} without a voxel above 0", "a mask that marks a region", "Check the mask.")
    return inside, header.grid.geometry


def read_series(path: Path, mask: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.float32]:
    """Read the voxels of a mask from a 4-D image, one volume in memory at a time.

    Parameters
    ----------
    path : ``.nii`` or ``.nii.gz`` of four axes, time or trial last
    mask : array (i, j, k), bool, RAS+
    geometry : grid of the mask

    Returns
    -------
    array (time, voxel), float32
        Voxels in the order of ``volume[mask]``.

    Raises
    ------
    BadInput
        The file is no intact 4-D NIfTI image, lies on another grid than the mask, or holds NaN or infinity there.
    """
    with opened_series(path) as (header, volumes):
        own = header.grid.geometry
        if not own.matches(geometry):
            raise BadInput(
                f"{path.name} on the grid {_described(own)} and a mask on {_described(geometry)}",
                "one grid for both",
                "Resample the mask to the images (nearest neighbour), after checking that they share a space.",
            )
        times = header.shape[3] if len(header.shape) > 3 else 1
        values = np.empty((times, int(np.count_nonzero(mask))), dtype=np.float32)
        for time, volume in enumerate(volumes):
            values[time] = volume[mask]
    _refuse_non_finite(path, values)
    return values


@contextmanager
def opened_series(path: Path, name: str = "") -> Iterator[tuple[NiftiHeader, Iterator[NDArray[np.float32]]]]:
    """Open an image as its header and a stream of volumes, each array (i, j, k) in RAS+; of a 3-D image there is one.

    Parameters
    ----------
    path : ``.nii`` or ``.nii.gz``
    name : what the person calls the file, where that is not the name on disk

    Raises
    ------
    BadInput
        The file is no intact NIfTI image of three or four axes.
    """
    with opened(path, name=name) as (header, voxels):
        if len(header.shape) > 4:
            raise BadInput(
                f"{name or path.name}, {len(header.shape)}-D of shape {header.shape}", "a 4-D image", "Split it."
            )
        if len(header.shape) == 3:
            voxels = voxels.reshape((*header.shape, 1))
        yield header, _volumes(voxels, header.grid)


@contextmanager
def opened_slabs(path: Path, name: str = "") -> Iterator[tuple[NiftiHeader, Iterator[NDArray[np.float32]]]]:
    """Open a 3-D image as its header and a stream of slabs, each array (i, j, some k) in the axes of the file.

    A slab holds a few million voxels, so that memory does not grow with the image.

    Raises
    ------
    BadInput
        The file is no intact NIfTI image.
    """
    with opened(path, name=name) as (header, voxels):
        i, j, k = header.shape[:3]
        step = max(1, _SLAB_VOXELS // (i * j))
        yield header, (voxels[:, :, at : at + step].astype(np.float32, copy=False) for at in range(0, k, step))


def read_overview(path: Path, name: str = "", most: int = 192) -> tuple[NDArray[np.float32], Geometry]:
    """Read every n-th voxel along each axis of an image, of the first volume where there are several.

    Parameters
    ----------
    path : ``.nii`` or ``.nii.gz``
    name : what the person calls the file, where that is not the name on disk
    most : voxels along the longest axis of what is returned

    Returns
    -------
    array (i, j, k), float32, in RAS+; Geometry of the whole image

    Raises
    ------
    BadInput
        The file is no intact NIfTI image of three or four axes.
    """
    with opened(path, name=name) as (header, voxels):
        a, b, c = (max(1, -(-side // most)) for side in header.shape[:3])
        first = (0,) * (len(header.shape) - 3)
        planes = [
            voxels[(slice(None, None, a), slice(None, None, b), k, *first)].astype(np.float32, copy=False)
            for k in range(0, header.shape[2], c)
        ]
    return turn(np.stack(planes, axis=2), header.grid), header.grid.geometry


def write_label_map(path: Path, label_map: LabelMap, grid: SourceGrid) -> None:
    """Write a segmentation onto the grid its image came with; the same input gives the same bytes.

    Names and colours of the labels stand in an extension of the header (`label_names`).

    Parameters
    ----------
    path : ``.nii`` or ``.nii.gz``, replaced in one step
    label_map : in RAS+
    grid : of the image that was segmented

    Raises
    ------
    BadInput
        The label map lies on another grid, holds numbers above 65535, or the name has another suffix.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise BadInput(f"the name {path.name}", "a name that ends in .nii or .nii.gz", "Change the suffix.")
    if not label_map.geometry.matches(grid.geometry):
        raise BadInput(
            f"a label map on the grid {_described(label_map.geometry)} for an image on {_described(grid.geometry)}",
            "one grid for both",
            "Segment the image itself, or resample the labels to it with nearest neighbour.",
        )
    highest = max(max(label_map.names, default=0), int(label_map.array.max()))
    if highest >= 2**16:
        raise BadInput(f"label number {highest}", "numbers up to 65535", "Number the labels anew.")
    back = nib.orientations.ornt_transform(RAS, grid.axes)
    array = nib.apply_orientation(label_map.array, back).astype(np.uint8 if highest < 2**8 else np.uint16)
    payload = _label_header(array, grid, encode_extension(label_map.names)) + array.astype(
        array.dtype.newbyteorder("<")
    ).tobytes(order="F")
    with replacing(path) as file:
        if path.name.endswith(".gz"):  # no name and no time in the gzip header: same input, same bytes
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                packed.write(payload)
        else:
            file.write(payload)


def _label_header(array: NDArray[Any], grid: SourceGrid, extension: bytes) -> bytes:
    """Header with the placement of the source and nothing else of it: no text that could name a person."""
    header = (nib.Nifti1Header if grid.version == 1 else nib.Nifti2Header)(endianness="<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    for field, value in grid.placement.items():
        header[field] = value
    header["pixdim"][4:] = 1
    header["xyzt_units"] = grid.units
    header["intent_code"] = _INTENT_LABEL
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["magic"] = header.single_magic
    header["vox_offset"] = len(header.binaryblock) + len(extension)
    return bytes(header.binaryblock) + extension


def turn(array: NDArray[Any], grid: SourceGrid) -> NDArray[Any]:
    """Turn an array (i, j, k) from the axes of its file to RAS+."""
    return np.ascontiguousarray(nib.apply_orientation(array, grid.axes))


def _volumes(voxels: ArrayProxy, grid: SourceGrid) -> Iterator[NDArray[np.float32]]:
    for time in range(voxels.shape[3]):
        yield turn(voxels[..., time].astype(np.float32, copy=False), grid)


def _described(geometry: Geometry) -> str:
    shape = "x".join(map(str, geometry.shape))
    spacing = "x".join(f"{side:.3g}" for side in geometry.spacing)
    corner = ", ".join(f"{x:.1f}" for x in geometry.affine[:3, 3])
    return f"{shape} of {spacing} mm from ({corner})"


def _refuse_series(path: Path, header: NiftiHeader) -> None:
    if len(header.shape) != 3:
        raise BadInput(
            f"{path.name}, a {len(header.shape)}-D image of shape {header.shape}",
            "a 3-D image of one volume",
            "Choose one volume or average over time; a 4-D image of betas needs a mask and events.",
        )


def _refuse_non_finite(path: Path, array: NDArray[Any]) -> None:
    wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
    if wrong:
        raise BadInput(
            f"{path.name} with {wrong} of {array.size} values that are NaN or infinite",
            "finite values",
            "Replace them, for example by zero outside the brain, and try again.",
        )
