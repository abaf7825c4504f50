"""Numbers of voxels put back where they came from: a NIfTI volume, or the surface files that the betas lay on."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.surfaces import CIFTI, write_surface
from voxelight.storage.formats.maps import encode_map
from voxelight.storage.formats.streams import replacing


def fill_space(values: NDArray[np.floating[Any]], space: Space, fill: float = 0) -> NDArray[np.float32]:
    """Return values at their places among all stored ones: array (map, stored), `fill` elsewhere.

    Parameters
    ----------
    values : array (voxel,) or (map, voxel), in the order of the betas
    space : of the betas
    fill : for what is outside the region

    Raises
    ------
    BadInput
        There are not as many values as voxels.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float32))
    if table.shape[1] != len(space):
        raise BadInput(f"{table.shape[1]} values for {len(space)} voxels of {space.roi}", "one each", "Take its space.")
    whole = np.full((len(table), space.stored), fill, dtype=np.float32)
    whole[:, space.places] = table
    return whole


def write_map(path: Path, values: NDArray[np.floating[Any]], space: Space, like: Path | None = None) -> list[Path]:
    """Write values of voxels as a map that viewers open, on the grid or the surface of the betas.

    Parameters
    ----------
    path : ``.nii.gz`` for a volume; ``.mgh``, ``.func.gii`` for two hemispheres; ``.dscalar.nii`` for CIFTI
    values : array (voxel,) or (map, voxel)
    space : of the betas
    like : for CIFTI, the file of the betas

    Returns
    -------
    list of Path
        What was written: for two hemispheres ``lh.NAME`` and ``rh.NAME`` (.mgh), or NAME with ``hemi-L``, ``hemi-R``.

    Raises
    ------
    BadInput
        The voxels lie nowhere that the files say, the format is of another kind of space, or numbers don't fit.
    """
    whole = fill_space(values, space)
    if space.grid is not None:
        return [_write_volume(path, whole, space)]
    if space.vertices == (0, 0):
        raise BadInput(
            f"{len(space)} columns of a table that lie nowhere in the brain",
            "betas with a mask or on a surface",
            "Maps need the place of every voxel: read the betas from the layout that holds it.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(CIFTI):
        write_surface(path, whole, like)
        return [path]
    left, right = _name_hemispheres(path)
    write_surface(left, whole[:, : space.vertices[0]])
    write_surface(right, whole[:, space.vertices[0] : sum(space.vertices)])
    return [left, right]


def write_series(path: Path, values: NDArray[np.floating[Any]], space: Space) -> None:
    """Write a volume for each row, a row in memory at a time, 0 outside the region.

    Parameters
    ----------
    path : ``.nii.gz``, replaced in one step
    values : array (trial, voxel), stored as float32
    space : of a volume
    """
    assert space.grid is not None
    image = nib.Nifti1Image(np.broadcast_to(np.float32(0), (*space.grid.shape, len(values))), space.grid.affine)
    for field, value in space.grid.placement.items():
        if field != "pixdim":
            image.header[field] = value
    image.header["xyzt_units"] = space.grid.units
    header = image.header
    header["vox_offset"], header["magic"] = header.single_vox_offset, header.single_magic
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file, gzip.GzipFile("", "wb", 4, file, mtime=0) as packed:
        packed.write(header.binaryblock + b"\0" * (header.single_vox_offset - len(header.binaryblock)))
        for row in values:
            whole = fill_space(row, space)[0].reshape(space.grid.shape)
            packed.write(whole.astype(header.get_data_dtype()).tobytes(order="F"))


def _write_volume(path: Path, whole: NDArray[np.float32], space: Space) -> Path:
    assert space.grid is not None
    if not path.name.endswith(".nii.gz"):
        raise BadInput(f"the name {path.name} for a map in a volume", "a name that ends in .nii.gz", "Change it.")
    volume = np.moveaxis(whole.reshape(len(whole), *space.grid.shape), 0, -1)
    image = nib.Nifti1Image(volume[..., 0] if len(whole) == 1 else volume, space.grid.affine)
    for field, value in space.grid.placement.items():
        if field != "pixdim":
            image.header[field] = value
    image.header["xyzt_units"] = space.grid.units
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(encode_map(image))
    return path


def _name_hemispheres(path: Path) -> tuple[Path, Path]:
    if path.name.endswith(".gii"):
        stem = path.name.removesuffix(".gii").removesuffix(".func")
        return path.with_name(f"{stem}_hemi-L.func.gii"), path.with_name(f"{stem}_hemi-R.func.gii")
    return path.with_name(f"lh.{path.name}"), path.with_name(f"rh.{path.name}")
