"""Values on the vertices of a surface: FreeSurfer .mgh, GIFTI and CIFTI, read a part at a time and written."""

# mypy: disable-error-code="no-untyped-call,no-untyped-def"
# nibabel is typed in part

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.cifti2 import cifti2_axes
from nibabel.gifti import gifti
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.storage.formats.fmri.space import Space

CIFTI = (".dscalar.nii", ".dtseries.nii")
MGH = (".mgh", ".mgz")
GIFTI = (".gii",)
_CORTEX = {"left": "CIFTI_STRUCTURE_CORTEX_LEFT", "right": "CIFTI_STRUCTURE_CORTEX_RIGHT"}


def surface_space(name: str, left: int, right: int, roi: str = "all vertices") -> Space:
    """Return all vertices of two hemispheres as a space, the left one first."""
    return Space(name, roi, np.arange(left + right), left + right, None, (left, right))


def mgh_length(path: Path, of_trials: bool = False) -> int:
    """Return how many vertices a .mgh or .mgz has, or how many trials, from its header."""
    shape = _opened(path).shape
    if len(shape) not in (3, 4) or shape[1:3] != (1, 1):
        raise BadInput(f"{path.name} of shape {shape}", "(vertex, 1, 1, trial)", "Check that it lies on a surface.")
    return int((shape[3] if len(shape) == 4 else 1) if of_trials else shape[0])


def read_mgh_columns(path: Path, trials: NDArray[np.intp]) -> NDArray[np.float32]:
    """Read some trials of a .mgh or .mgz: array (trial, vertex); of an unpacked .mgh nothing else is read."""
    image = _opened(path)
    length = mgh_length(path, of_trials=True)
    _check_trials(path, trials, length)
    stored, by_trial = image.dataobj, len(image.shape) == 4
    with _reading(path):
        parts = [np.asarray(stored[..., int(trial)] if by_trial else stored).ravel() for trial in trials]
    return np.stack(parts).astype(np.float32)


def read_gifti_columns(path: Path, trials: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
    """Read some trials of a GIFTI file, one data array each: array (trial, vertex). The format must be read whole."""
    with _reading(path):
        arrays = [np.asarray(each.data) for each in _opened(path).darrays]
    if len(arrays) == 1 and arrays[0].ndim == 2:  # all trials in one array
        arrays = list(arrays[0].T)
    if not arrays or any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
        shapes = sorted({array.shape for array in arrays})
        raise BadInput(f"{path.name} with arrays of {shapes}", "one number a vertex and trial", "Check the file.")
    chosen = np.arange(len(arrays)) if trials is None else trials
    _check_trials(path, chosen, len(arrays))
    return np.stack([arrays[int(trial)] for trial in chosen]).astype(np.float32)


def cifti_space(path: Path, cortex_only: bool = False) -> Space:
    """Return the brain ordinates of a CIFTI file as a space: vertices, with the voxels below them unless left out."""
    image = _opened(path)
    axis = image.header.get_axis(1)
    counts = {side: int((axis.name == structure).sum()) for side, structure in _CORTEX.items()}
    places = np.arange(len(axis))
    if cortex_only:
        places = np.flatnonzero(np.isin(axis.name, list(_CORTEX.values())))
    roi = "cortex" if cortex_only else "all grayordinates"
    return Space("fsLR", roi, places, len(axis), None, (counts["left"], counts["right"]))


def count_cifti(path: Path) -> int:
    """Return how many trials a CIFTI file has, from its header."""
    return int(_opened(path).shape[0])


def read_cifti_rows(path: Path, trials: NDArray[np.intp]) -> NDArray[np.float32]:
    """Read some trials of a CIFTI file: array (trial, brain ordinate); nothing else is read."""
    image = _opened(path)
    _check_trials(path, trials, image.shape[0])
    with _reading(path):
        return np.stack([np.asarray(image.dataobj[int(trial)]) for trial in trials]).astype(np.float32)


def write_surface(path: Path, values: NDArray[np.float32], like: Path | None = None) -> None:
    """Write values on vertices, in the format of the name.

    Parameters
    ----------
    path : ``.mgh``, ``.mgz``, ``.func.gii`` or ``.dscalar.nii``
    values : array (trial, vertex) of one hemisphere; for CIFTI (trial, brain ordinate)
    like : for CIFTI, a file on the same brain ordinates

    Raises
    ------
    BadInput
        The name has another suffix, or the brain ordinates of `like` are others.
    """
    table = np.atleast_2d(values).astype(np.float32)
    for suffixes, make in _WRITERS.items():
        if path.name.endswith(suffixes):
            temporary = path.with_name(f".part-{path.name}")
            try:
                nib.save(make(table, like), temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            return
    raise BadInput(f"the name {path.name}", "a name that ends in .mgh, .mgz, .gii or .dscalar.nii", "Change it.")


def _as_mgh(table: NDArray[np.float32], _: Path | None) -> Any:
    volume = table.T[:, None, None, :]
    return nib.MGHImage(volume[..., 0] if len(table) == 1 else volume, np.eye(4))


def _as_gifti(table: NDArray[np.float32], _: Path | None) -> Any:
    arrays = [gifti.GiftiDataArray(row, datatype="NIFTI_TYPE_FLOAT32") for row in table]
    return gifti.GiftiImage(darrays=arrays)


def _as_cifti(table: NDArray[np.float32], like: Path | None) -> Any:
    if like is None:
        raise BadInput("a CIFTI map without a file to take its axis from", "one on its grayordinates", "Name it.")
    axis = _opened(like).header.get_axis(1)
    if len(axis) != table.shape[1]:
        raise BadInput(
            f"{table.shape[1]} values for {len(axis)} grayordinates", "one each", "Take the file they're of."
        )
    names = [f"map {number}" for number in range(1, len(table) + 1)]
    return nib.Cifti2Image(table, header=(cifti2_axes.ScalarAxis(names), axis))


_WRITERS: dict[tuple[str, ...], Callable[[NDArray[np.float32], Path | None], Any]] = {
    MGH: _as_mgh,
    GIFTI: _as_gifti,
    CIFTI[:1]: _as_cifti,
}


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise BadInput(f"no file {path.name}", "a surface file", "Check the path.")
    with _reading(path):
        return nib.load(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # each format raises whatever a damaged byte leads to
        raise BadInput(
            f"{path.name}, cut short or damaged ({str(error)[:120]})", "an intact surface file", "Copy it again."
        ) from error


def _check_trials(path: Path, trials: NDArray[np.intp], there: int) -> None:
    if len(trials) and int(trials.max()) >= there:
        raise BadInput(f"{there} trials in {path.name}", f"at least {int(trials.max()) + 1}", "Check the events.")
