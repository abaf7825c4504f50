"""Maps of numbers over the brain as NIfTI, and which space a mask says it lies in."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import gzip
import io
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Geometry
from voxelight.storage.formats.nifti import RAS, SourceGrid, read_source_grid

_MNI152 = 4  # NIFTI_XFORM_MNI_152
_SHARE_STEPS = 250  # a byte holds a share to within 0.002


def is_mni152(path: Path) -> bool:
    """Whether the header of an image says that it lies in the space of MNI152."""
    placement = read_source_grid(path).placement
    return any(int(placement[code]) == _MNI152 for code in ("sform_code", "qform_code"))


def make_image(values: NDArray[np.float32], geometry: Geometry, mni152: bool) -> Any:
    """Return a map (i, j, k) in RAS+ as an image of nibabel."""
    image = nib.Nifti1Image(values, geometry.affine)
    image.header.set_xyzt_units("mm")
    code = "mni" if mni152 else "scanner"
    image.set_sform(geometry.affine, code)
    image.set_qform(geometry.affine, code)
    return image


def encode_map(image: Any) -> bytes:
    """Return an image as the content of a ``.nii.gz``; the same image gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", 6, buffer, mtime=0) as packed:
        packed.write(image.to_bytes())
    return buffer.getvalue()


def encode_share(share: NDArray[np.floating[Any]], grid: SourceGrid) -> bytes:
    """Return shares (i, j, k) in RAS+, from 0 to 1, as a ``.nii.gz`` on the grid of a file, one byte a voxel.

    Parameters
    ----------
    share : array on the voxels of `grid`, axes in RAS+ order
    grid : of the file that they belong to
    """
    back = nib.orientations.ornt_transform(RAS, grid.axes)
    steps = np.rint(nib.apply_orientation(share, back).astype(np.float32) * _SHARE_STEPS).astype(np.uint8)
    image = (nib.Nifti1Image if grid.version == 1 else nib.Nifti2Image)(steps, grid.affine)
    for field, value in grid.placement.items():
        image.header[field] = value
    image.header["xyzt_units"] = grid.units
    image.header.set_slope_inter(1 / _SHARE_STEPS, 0)
    return encode_map(image)
