"""4-D NIfTI images of one volume a trial, a volume in memory at a time."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.storage.formats.fmri.space import Space, check_grid
from voxelight.storage.formats.nifti_header import NiftiHeader, read_header
from voxelight.storage.formats.streams import gzip_faults, open_stream

LARGEST = 1 << 42  # bytes that a header may claim: one volume at a time is held


def read_large_header(path: Path) -> NiftiHeader:
    """Read the header of an image of any length, since only one volume of it is ever held."""
    return read_header(path, LARGEST)


def count_volumes(path: Path) -> int:
    """Return how many volumes an image has, from its header."""
    shape = read_large_header(path).shape
    return shape[3] if len(shape) > 3 else 1


def read_places(path: Path, space: Space, volumes: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
    """Yield some volumes of an image, each as the voxels of a space.

    Parameters
    ----------
    path : ``.nii`` or ``.nii.gz``, three or four axes
    space : on the grid of the image
    volumes : array (some,), numbers of volumes in any order; they are read forwards

    Yields
    ------
    place : array (1,), where in `volumes` it stands
    values : array (1, voxel), in the type of the file unless its header scales

    Raises
    ------
    BadInput
        The image lies on another grid, has too few volumes, or is cut short.
    """
    header = read_large_header(path)
    check_grid(path, header.grid, space)
    there = header.shape[3] if len(header.shape) > 3 else 1
    if len(header.shape) > 4 or (len(volumes) and volumes.max() >= there):
        raise BadInput(
            f"{path.name} of shape {header.shape}", f"a 4-D image of {volumes.max() + 1} volumes", "Check the tables."
        )
    shape = (*header.shape[:3], there)
    with gzip_faults(path.name), open_stream(path) as stream:
        proxy = ArrayProxy(stream, (shape, header.dtype, header.offset, *header.scaling), mmap=False)
        for place in np.argsort(volumes, kind="stable"):
            try:
                volume = np.asanyarray(proxy[..., int(volumes[place])])
            except (OSError, ValueError) as error:
                if isinstance(error, BadInput):
                    raise
                raise BadInput(f"{path.name}, cut short ({error})", "the whole file", "Copy it again.") from error
            yield np.array([place]), volume.reshape(1, -1)[:, space.places]


def read_volumes(path: Path, space: Space, volumes: NDArray[np.intp]) -> NDArray[Any]:
    """Read some volumes as the voxels of a space: array (volume, voxel), in the order of `volumes`."""
    values: NDArray[Any] | None = None
    for place, part in read_places(path, space, volumes):
        if values is None:
            values = np.empty((len(volumes), len(space)), dtype=part.dtype)
        values[place] = part
    if values is None:
        raise BadInput(f"no volume of {path.name}", "one or more", "Choose some trials.")
    return values


def read_one(path: Path, space: Space) -> NDArray[np.float32]:
    """Read a 3-D map as the voxels of a space: array (voxel,), float32."""
    found: NDArray[np.float32] = read_volumes(path, space, np.zeros(1, dtype=np.intp))[0].astype(np.float32)
    return found
