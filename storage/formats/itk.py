"""NRRD and MetaImage images, read by SimpleITK; the grid that it gives in LPS is turned to RAS+."""

# mypy: disable-error-code="no-untyped-call"
# SimpleITK is typed in part

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Volume
from voxelight.storage.formats import nifti
from voxelight.storage.formats.itk_header import find_unit_mm, is_placed, read_itk_header
from voxelight.storage.formats.nifti_header import MAX_BYTES, SourceGrid, place_grid
from voxelight.storage.formats.streams import DEFLATE_LIMIT, readable, refuse_if

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

SUFFIXES = (".nrrd", ".mha")
_IO = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO"}


def read_itk(path: Path, name: str = "") -> tuple[NDArray[np.float32], SourceGrid]:
    """Read a 3-D image.

    Parameters
    ----------
    path : the content decides
    name : what the person calls it, where that is not the name on disk

    Returns
    -------
    array (i, j, k), float32, in the axes of the file; SourceGrid

    Raises
    ------
    BadInput
        The header is impossible or leads elsewhere, the voxels are colours or no 3-D image, or the file is damaged.
    """
    import SimpleITK as sitk  # noqa: N813

    name = name or path.name
    header = read_itk_header(path, name)
    unit_mm = find_unit_mm(header, name)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_IO[".nrrd" if "dimension" in header.fields else ".mha"])
    reader.LoadPrivateTagsOff()
    try:
        reader.ReadImageInformation()
        _check(reader, path, name, header.offset)
        reader.SetOutputPixelType(sitk.sitkFloat32)
        image = reader.Execute()
    except RuntimeError as error:
        raise BadInput(f"{name}, which can't be read ({_say(error)})", "an intact file", "Copy it again.") from error
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    affine[:2] *= -1  # LPS to RAS
    affine[:3] *= unit_mm
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    grid = place_grid((array.shape[0], array.shape[1], array.shape[2]), affine)
    return array, grid if is_placed(header) else _unplaced(grid)


def read_volume(path: Path) -> tuple[Volume, SourceGrid]:
    """Read a 3-D image as a volume, axes turned to RAS+.

    Raises
    ------
    BadInput
        As `read_itk`, or it holds NaN or infinity.
    """
    array, grid = read_itk(path)
    return Volume(nifti.turn(array, grid)[np.newaxis], grid.geometry), grid


def clean_itk(path: Path, target: Path, name: str) -> bool:
    """Take every field, key and comment out of a header that does not place or type the voxels.

    Returns
    -------
    bool
        Whether `target` was written; else there was nothing to take out.
    """
    header = read_itk_header(path, name)
    if not header.other:
        return False
    with path.open("rb") as source, target.open("wb") as file:
        file.write(header.content)
        source.seek(header.offset)
        shutil.copyfileobj(source, file, 1 << 20)
    return True


def _check(reader: "ImageFileReader", path: Path, name: str, offset: int) -> None:
    size, channels = reader.GetSize(), reader.GetNumberOfComponents()
    refuse_if(
        channels != 1,
        f"{name} with {channels} values a voxel, as colours and vectors have",
        "one grey value a voxel",
        "Save one component, or the image that the scanner measured.",
    )
    refuse_if(
        len(size) != 3 or min(size) < 1,
        f"{name}, {len(size)}-D of shape {tuple(size)}",
        "a 3-D image of one volume",
        "Save one volume; a single slice needs a third axis of length 1.",
    )
    stored, length = int(np.prod(size, dtype=np.int64)), path.stat().st_size - offset
    refuse_if(
        stored * 4 > MAX_BYTES,
        f"{name} whose header claims {readable(stored * 4)} of voxels",
        f"at most {readable(MAX_BYTES)}",
        "Check that the header is not damaged, or split the file.",
    )
    refuse_if(
        stored > length * DEFLATE_LIMIT,
        f"{name} of {readable(length)} whose header claims {readable(stored)} or more",
        "a file that holds what its header claims",
        "The file is cut off or its header damaged: copy it again.",
    )


def _unplaced(grid: SourceGrid) -> SourceGrid:
    codes = {"sform_code": np.array(0), "qform_code": np.array(0)}
    return replace(grid, placement={**grid.placement, **codes})


def _say(error: RuntimeError) -> str:
    """Return the last line of what ITK says, without paths of this machine."""
    lines = [line for line in str(error).splitlines() if line.strip() and "/" not in line]
    return lines[-1].strip()[:160] if lines else "ITK gives no reason"
