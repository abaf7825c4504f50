"""Pictures of many stimuli: rows of an array on the disk, or files in folders; only those asked for are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.faults import check_numbering
from voxelight.storage.formats.hdf5 import find_array, opened_hdf5
from voxelight.storage.formats.images import PICTURE_SUFFIXES, read_stimuli, square

_AXES = 4


def read_rows_of_pictures(
    path: Path, names: Sequence[str], rows: NDArray[np.intp], ids: Sequence[str], side: int | None
) -> Stimuli:
    """Read rows of a stack of pictures in an HDF5 file, one at a time.

    Parameters
    ----------
    path : HDF5
    names : of the array, in order of preference; channels last, or first where the second axis is 1 or 3
    rows : numbers of pictures, from 0
    ids : one a row
    side : where given, squares of so many pixels are made

    Raises
    ------
    NotFound
        There is no such file.
    BadInput
        It is damaged, holds no pictures, or has fewer of them.
    """
    if not path.is_file():
        raise NotFound(f"no {path.name} in {path.parent}", "the file of the pictures", "Copy it there.")
    with opened_hdf5(path) as file:
        array = find_array(file, *names, axes=_AXES)
        check_numbering(rows, array.shape[0], f"the pictures asked of {path.name}")
        images = [settle_picture(array[int(row)], path.name, side) for row in rows]
    return stack_pictures(images, ids)


def stack_pictures(images: Sequence[NDArray[np.float32]], ids: Sequence[str]) -> Stimuli:
    """Put pictures (row, column, channel) of one size together."""
    if not images:
        raise BadInput("no picture", "at least one stimulus", "Choose some trials.")
    return Stimuli(np.stack(images), np.array(list(ids)))


def read_named_pictures(folders: Sequence[Path], ids: Sequence[str], side: int | None) -> Stimuli:
    """Read picture files by the names of their stimuli.

    Parameters
    ----------
    folders : searched in turn, not below them
    ids : names without suffix
    side : as in `read_rows_of_pictures`

    Raises
    ------
    NotFound
        A stimulus has no picture.
    """
    there = _find_files(folders)
    missing = [name for name in ids if name not in there]
    if missing:
        raise NotFound(
            f"{len(missing)} stimuli without a picture in {', '.join(map(str, folders))}, {missing[0]} for one",
            "a PNG, JPEG or TIFF a stimulus, of its name",
            "Copy the pictures there.",
        )
    return read_stimuli([there[name] for name in ids], list(ids), side)


def _find_files(folders: Sequence[Path]) -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in PICTURE_SUFFIXES:
                    found.setdefault(path.stem, path)
    return found


def settle_picture(picture: NDArray[Any], where: str, side: int | None) -> NDArray[np.float32]:
    """Return a stored picture, channels first or last, as (row, column, channel) in [0, 1]; integers are of 255."""
    if picture.shape[0] in (1, 3) and picture.shape[-1] not in (1, 3):
        picture = picture.transpose(1, 2, 0)
    if picture.shape[-1] not in (1, 3):
        raise BadInput(f"pictures of shape {picture.shape} in {where}", "1 or 3 channels", "Check the file.")
    scaled = picture / np.float32(255) if picture.dtype.kind in "iu" else picture
    plain = np.asarray(scaled, dtype=np.float32)
    return plain if side is None else square(plain, side)
