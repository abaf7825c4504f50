"""Pictures on disk, read a batch at a time: a folder of files, or one array."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Stimuli
from voxelight.storage.formats.images import PICTURE_SUFFIXES, read_stimuli
from voxelight.storage.formats.streams import refuse_if

ARRAY_SUFFIXES = (".npy", ".npz")


class PictureFiles:
    """PNG and JPEG files, each cut to its largest centred square and scaled when it is read.

    Parameters
    ----------
    paths : files
    ids : array (picture,), str, unique
    size : side of the pictures that are handed out, pixels
    """

    def __init__(self, paths: Sequence[Path], ids: NDArray[np.str_], size: int) -> None:
        self._paths, self._ids, self._size = list(paths), ids, size

    @property
    def ids(self) -> NDArray[np.str_]:
        """Ids of all pictures."""
        return self._ids

    def read(self, rows: NDArray[np.intp]) -> Stimuli:
        """Read some pictures, in this order."""
        return read_stimuli([self._paths[row] for row in rows], self._ids[rows].tolist(), self._size)


class PictureArray:
    """Pictures in one array, which may lie on disk.

    Parameters
    ----------
    images : array (picture, row, column, 1 or 3), uint8, or floats from 0 to 1
    ids : array (picture,), str, unique
    """

    def __init__(self, images: NDArray[Any], ids: NDArray[np.str_]) -> None:
        self._images, self._ids = images, ids

    @property
    def ids(self) -> NDArray[np.str_]:
        """Ids of all pictures."""
        return self._ids

    def read(self, rows: NDArray[np.intp]) -> Stimuli:
        """Read some pictures, in this order."""
        images = self._images[rows]
        scale = np.float32(255 if images.dtype == np.uint8 else 1)
        return Stimuli(images.astype(np.float32) / scale, self._ids[rows])


def open_pictures(path: Path, size: int = 64) -> PictureFiles | PictureArray:
    """Open a picture set; no picture is read yet.

    Parameters
    ----------
    path : folder with PNG or JPEG files, those of its folders included; or ``.npy`` with (picture, row, column,
        channel); or ``.npz`` with `images` like that and, where known, `ids`
    size : side to which the files of a folder are scaled, pixels

    Raises
    ------
    BadInput
        There is no picture, or the array is none of pictures, or an id stands twice.
    """
    if path.is_dir():
        return _open_folder(path, size)
    images, ids = read_rows_by_id(path, "images")
    refuse_if(
        images.ndim != 4 or images.shape[3] not in (1, 3) or (images.dtype != np.uint8 and images.dtype.kind != "f"),
        f"{path.name} with an array of shape {images.shape} and type {images.dtype}",
        "(picture, row, column, 1 or 3 channels), uint8 or floats from 0 to 1",
        "Save pictures of one size, channels last.",
    )
    return PictureArray(images, ids)


def read_rows_by_id(path: Path, name: str) -> tuple[NDArray[Any], NDArray[np.str_]]:
    """Read an array of one row a picture and the ids of the rows; a ``.npy`` stays on disk.

    Parameters
    ----------
    path : ``.npy``, whose rows are called by their number, or ``.npz`` with the array and, where known, `ids`
    name : of the array in a ``.npz``

    Raises
    ------
    BadInput
        The file can't be read, or there is not one distinct id a row.
    """
    refuse_if(
        not path.is_file() or path.suffix.lower() not in ARRAY_SUFFIXES,
        f"{path}",
        f"a file named {' or '.join(f'*{suffix}' for suffix in ARRAY_SUFFIXES)}",
        "Check the path.",
    )
    try:
        if path.suffix.lower() == ".npy":
            rows, ids = np.load(path, mmap_mode="r", allow_pickle=False), None
        else:
            with np.load(path, allow_pickle=False) as archive:
                rows, ids = archive[name], archive.get("ids")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise BadInput(
            f"{path.name} that can't be read ({error})",
            f"an array, called {name} in a .npz",
            "Save it again with numpy.",
        ) from error
    named = np.array([f"{row:06d}" for row in range(len(rows))]) if ids is None else ids.astype(str)
    refuse_if(
        len(rows) == 0 or named.shape != rows.shape[:1] or len(np.unique(named)) != len(named),
        f"{path.name} with {len(rows)} rows and {len(np.unique(named))} distinct ids",
        "rows, and one id each, none twice",
        "Name every picture once.",
    )
    return rows, named


def _open_folder(folder: Path, size: int) -> PictureFiles:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    refuse_if(
        not paths,
        f"a folder {folder} without a picture",
        f"files named {', '.join(f'*{suffix}' for suffix in PICTURE_SUFFIXES)}",
        "Check the folder.",
    )
    counts = Counter(path.stem for path in paths)
    # A name that stands in two folders is told with its folders.
    ids = [
        path.stem if counts[path.stem] == 1 else "_".join(path.relative_to(folder).with_suffix("").parts)
        for path in paths
    ]
    refuse_if(
        len(set(ids)) != len(ids),
        f"{len(ids)} pictures in {folder} under {len(set(ids))} names",
        "names that differ without their suffix",
        "Rename pictures of one name.",
    )
    return PictureFiles(paths, np.array(ids), size)
