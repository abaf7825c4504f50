"""Write an image as NIfTI on the grid it came with: for viewers, which read no other format."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Volume
from voxelight.storage.formats.nifti_header import SourceGrid
from voxelight.storage.formats.streams import replacing

_RAS = np.array([[0, 1], [1, 1], [2, 1]])
_SHORT = np.iinfo(np.int16)
_SCANNER = 1
_MILLIMETRES = 2


def write_volume(path: Path, volume: Volume, grid: SourceGrid) -> None:
    """Write the first channel of a volume, with its placement and no other text; whole numbers as 16 bits.

    Parameters
    ----------
    path : ``.nii.gz``, replaced in one step
    volume : Volume (c, i, j, k), RAS+
    grid : SourceGrid
        That the image came with.

    Raises
    ------
    BadInput
        The volume lies on another grid.
    """
    if not volume.geometry.matches(grid.geometry):
        raise BadInput(
            f"a volume of {volume.geometry.shape} voxels for a grid of {grid.shape}",
            "one grid for both",
            "Write the volume on the grid that it was read from.",
        )
    back = nib.orientations.ornt_transform(_RAS, grid.axes)
    array: NDArray[Any] = nib.apply_orientation(volume.array[0], back)
    if _SHORT.min <= array.min() and array.max() <= _SHORT.max and bool((array == np.rint(array)).all()):
        array = array.astype(np.int16)
    image = nib.Nifti1Image(array, grid.affine)
    image.set_sform(grid.affine, _SCANNER)
    image.set_qform(grid.affine, _SCANNER, strip_shears=True)
    if not np.allclose(image.get_qform(), grid.affine, atol=1e-4):
        image.header["qform_code"] = 0  # a quaternion knows no shear
    image.header["xyzt_units"] = _MILLIMETRES
    with replacing(path) as file, gzip.GzipFile("", "wb", 4, file, mtime=0) as packed:
        packed.write(image.to_bytes())
