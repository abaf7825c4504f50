"""Images in space, whatever their format: read by the suffix of their name, axes turned to RAS+."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.formats import nifti
from voxelight.storage.formats.images import PICTURE_SUFFIXES, read_picture
from voxelight.storage.formats.names import find_suffix
from voxelight.storage.formats.nifti_header import MAX_BYTES, SourceGrid, place_grid

Overview = tuple[NDArray[np.float32], Geometry]


def read_image(path: Path) -> tuple[Volume, SourceGrid]:
    """Read one 3-D image, and the grid that a label map goes back onto.

    Parameters
    ----------
    path : its suffix chooses the reader: ``.nii``, ``.nii.gz``, ``.nrrd``, ``.mha``, ``.dcm.zip`` for a DICOM series,
        or ``.png``, ``.jpg``, ``.tif`` for a picture

    Returns
    -------
    Volume
        array (1, i, j, k), float32; of a picture (channel, column, row, 1), values from 0 to 1, pixels of 1 mm
    SourceGrid
        as the file stores it; of a DICOM series columns, rows and slices

    Raises
    ------
    BadInput
        The suffix is unknown, or the file can't be read.
    """
    if find_suffix(path.name) in PICTURE_SUFFIXES:
        return read_flat(path)
    return _find(path.name)[0](path)


def read_label_map(path: Path, names: dict[int, str]) -> LabelMap:
    """Read a segmentation, axes turned to RAS+.

    Parameters
    ----------
    path : ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.mha``
    names : label number -> name, background (0) left out

    Raises
    ------
    BadInput
        The file is no intact image of one volume, or holds a value that is no named label number.
    """
    if find_suffix(path.name) not in {".nrrd", ".mha"}:
        return nifti.read_label_map(path, names)
    from voxelight.storage.formats.itk import read_itk

    array, grid = read_itk(path)
    return nifti.name_labels(nifti.turn(array, grid), grid.geometry, names, path.name)


def read_flat(path: Path) -> tuple[Volume, SourceGrid]:
    """Read a picture as a volume of one slice, axes as its pixels are numbered: column, then row.

    Raises
    ------
    BadInput
        It can't be read.
    """
    picture = read_picture(path).transpose(2, 1, 0)[..., np.newaxis]
    grid = place_grid((picture.shape[1], picture.shape[2], 1), np.eye(4))
    return Volume(np.ascontiguousarray(picture), grid.geometry), grid


def read_overview(path: Path, name: str = "", most: int = 192) -> Overview:
    """Read every n-th voxel along each axis of an image, of the first volume where there are several.

    Parameters
    ----------
    path : where it lies, under any name
    name : what the person calls the file, where that is not the name on disk
    most : voxels along the longest axis of what is returned

    Returns
    -------
    array (i, j, k), float32, in RAS+; Geometry of the whole image

    Raises
    ------
    BadInput
        The suffix is unknown, or the file can't be read.
    """
    return _find(name or path.name)[1](path, name, most)


def _read_nifti(path: Path) -> tuple[Volume, SourceGrid]:
    return nifti.read_volume(path), nifti.read_source_grid(path)


def _read_dicom(path: Path) -> tuple[Volume, SourceGrid]:
    from voxelight.storage.formats.dicom.volume import open_stack, read_array

    stack = open_stack(path)
    grid = place_grid(stack.shape, stack.affine)
    array = read_array(stack, MAX_BYTES)
    return Volume(nifti.turn(array, grid)[np.newaxis], grid.geometry), grid


def _look_at_dicom(path: Path, name: str, most: int) -> Overview:
    from voxelight.storage.formats.dicom.volume import open_stack, read_slices

    stack = open_stack(path, name)
    grid = place_grid(stack.shape, stack.affine)
    a, b, c = (max(1, -(-side // most)) for side in stack.shape)
    slices = dict(read_slices(stack, every=c))
    array = np.stack([slices[place].T[::a, ::b] for place in sorted(slices)], axis=2)
    return nifti.turn(array, grid), grid.geometry


def _read_itk(path: Path) -> tuple[Volume, SourceGrid]:
    from voxelight.storage.formats.itk import read_volume

    return read_volume(path)


def _look_at_itk(path: Path, name: str, most: int) -> Overview:
    from voxelight.storage.formats.itk import read_itk

    array, grid = read_itk(path, name)
    a, b, c = (max(1, -(-side // most)) for side in array.shape)
    return nifti.turn(array[::a, ::b, ::c], grid), grid.geometry


def _find(name: str) -> tuple[Callable[[Path], tuple[Volume, SourceGrid]], Callable[[Path, str, int], Overview]]:
    suffix = find_suffix(name)
    if suffix not in _READERS:
        raise BadInput(f"the name {name}", f"a name that ends in {', '.join(_READERS)}", "Convert the image.")
    return _READERS[suffix]


_READERS = {
    ".nii": (_read_nifti, nifti.read_overview),
    ".nii.gz": (_read_nifti, nifti.read_overview),
    ".nrrd": (_read_itk, _look_at_itk),
    ".mha": (_read_itk, _look_at_itk),
    ".dcm.zip": (_read_dicom, _look_at_dicom),
}
VOLUME_SUFFIXES = tuple(_READERS)
