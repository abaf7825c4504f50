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
from voxelight.storage.formats.nifti import read_source_grid

_MNI152 = 4  # NIFTI_XFORM_MNI_152


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
