"""Take the face out of an image as it is stored: face voxels to the background, every other byte as it was."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from voxelight.medseg.deface import Face, draw_heads, find_face
from voxelight.models.errors import BadInput
from voxelight.models.values import Volume
from voxelight.storage.formats.names import find_suffix
from voxelight.storage.formats.nifti import read_source_grid, turn
from voxelight.storage.formats.nifti_header import SourceGrid
from voxelight.storage.formats.nifti_image import write_volume
from voxelight.storage.formats.streams import open_stream, replacing
from voxelight.storage.formats.template import read_template
from voxelight.storage.formats.volumes import read_image

NIFTI = (".nii", ".nii.gz")
_DICOM = ".dcm.zip"
_MOST_LABELS = 64
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True, eq=False)
class Defaced:
    """A head whose face was taken out.

    Parameters
    ----------
    face : where it was
    picture : array (row, column, 3), uint8: before and after
    """

    face: Face
    picture: NDArray[np.uint8]


def remove_face(path: Path, name: str, target: Path) -> Defaced | None:
    """Write an image without its face; None, and nothing is written, where it is a label map.

    Parameters
    ----------
    path : NIfTI, in three or four dimensions, or the archive of a DICOM series
    name : by whose suffix it is read
    target : NIfTI, compressed where its name says so. Of a NIfTI file header, type and grid stay to the byte; of a
        series, whose instances are records that nobody may change, it is a new volume on the same grid.

    Raises
    ------
    BadInput
        It is another format, or no face was found: the text says why.
    """
    suffix = find_suffix(name)
    if suffix == _DICOM:
        volume, grid = read_image(path)
        face = find_face(volume, read_template())
        after = _without(volume, face)
        write_volume(target, after, grid)
        return Defaced(face, draw_heads(volume, after))
    if suffix not in NIFTI:
        raise BadInput(f"{name}, from which no face is taken out", "NIfTI or a DICOM series", "Convert it to NIfTI.")
    grid = read_source_grid(path)
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    voxels = image.dataobj
    assert isinstance(voxels, ArrayProxy)
    stored = np.asarray(voxels.get_unscaled())
    if _is_label_map(stored):
        return None
    values = np.asarray(voxels, dtype=np.float32)
    mean = values.mean(axis=3) if values.ndim == 4 else values.reshape(grid.shape)
    volume = Volume(turn(mean, grid)[np.newaxis], grid.geometry)
    face = find_face(volume, read_template())
    _write(path, target, (stored, voxels.offset), _turn_back(face.inside, grid))
    return Defaced(face, draw_heads(volume, _without(volume, face)))


def _without(volume: Volume, face: Face) -> Volume:
    array = volume.array.copy()
    array[:, face.inside] = array.min()
    return Volume(array, volume.geometry)


def _turn_back(mask: NDArray[np.bool_], grid: SourceGrid) -> NDArray[np.bool_]:
    turned: NDArray[np.bool_] = nib.apply_orientation(mask, nib.orientations.ornt_transform(_RAS, grid.axes))
    return turned


def _write(path: Path, target: Path, read: tuple[NDArray[Any], int], mask: NDArray[np.bool_]) -> None:
    """Write a file with other voxels, and every byte before and after them as it was."""
    with open_stream(path) as file:
        content = file.read()
    stored, begin = read
    changed = np.array(stored)
    changed[mask] = stored.min()
    voxels = changed.astype(stored.dtype, copy=False).tobytes(order="F")
    whole = content[:begin] + voxels + content[begin + len(voxels) :]
    with replacing(target) as out:
        if find_suffix(path.name) == ".nii.gz" or content[:2] != path.read_bytes()[:2]:
            with gzip.GzipFile("", "wb", 6, out, mtime=0) as packed:
                packed.write(whole)
        else:
            out.write(whole)


def _is_label_map(stored: NDArray[Any]) -> bool:
    """Return whether an image holds a few whole numbers only, and so no face."""
    some = np.unique(stored)
    return len(some) <= _MOST_LABELS and bool((some == np.rint(some)).all())
