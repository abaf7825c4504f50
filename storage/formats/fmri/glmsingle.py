"""What GLMsingle writes (Prince et al. 2022): ``TYPED_FITHRF_GLMDENOISE_RR`` as HDF5 or MATLAB 7.3, never its pickles.

GLMsingle's own design file says in which order conditions were shown, but no picture by name: ``trials.tsv`` or
``events.tsv`` must say that, one row a trial.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.arrays import read_trials
from voxelight.storage.formats.fmri.faults import divide_integers
from voxelight.storage.formats.fmri.pictures import read_named_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space, check_stored_shape, read_mask_space
from voxelight.storage.formats.hdf5 import find_array, opened_hdf5
from voxelight.storage.formats.sniff import sniff

STEM = "TYPED_FITHRF_GLMDENOISE_RR"
_VERSIONS = (STEM, "TYPEC_FITHRF_GLMDENOISE", "TYPEB_FITHRF")
_SUFFIXES = (".hdf5", ".h5", ".mat")
_BETAS = ("betasmd", "modelmd")
_AT_ONCE = 1 << 14  # voxels


class _Found(NamedTuple):
    path: Path
    shape: tuple[int, ...]  # voxels of a trial, in the axes of the volume
    trials: int
    reversed: bool  # MATLAB's order, which HDF5 shows from behind


class GlmSingleRecording(Recording):
    """`betasmd` (i, j, k, trial) or (voxel, trial), in Python's order or in MATLAB's."""

    layout = "glmsingle"

    @cached_property
    def _found(self) -> dict[str, _Found]:
        folders = {"01": self.folder} if self._list_files(self.folder) else {}
        folders |= {path.name: path for path in sorted(self.folder.glob("*")) if self._list_files(path)} or folders
        if not folders:
            self._refuse_pickles()
            raise NotFound(f"no {STEM}.hdf5 or .mat in {self.folder}", "what GLMsingle wrote", "Check the path.")
        return {name: _describe(self._list_files(folder)[0]) for name, folder in folders.items()}

    def _list_files(self, folder: Path) -> list[Path]:
        versions = _VERSIONS if self.options.version is None else (self.options.version,)
        paths = (folder / f"{version}{suffix}" for version in versions for suffix in _SUFFIXES)
        return [path for path in paths if path.is_file()]

    def _refuse_pickles(self) -> None:
        pickled = sorted(self.folder.rglob("TYPE*.npy"))
        if pickled:
            raise BadInput(
                f"{pickled[0].name}, a pickle: a dictionary that numpy can only open by running what it says",
                "HDF5, or MATLAB 7.3",
                "Run GLMsingle with wanthdf5 = 1; or open the file where you trust it and write betasmd to HDF5.",
            )

    def _list(self) -> Index:
        subjects = tuple(self._list_subject(name, found) for name, found in self._found.items())
        versions = ", ".join(sorted({found.path.stem for found in self._found.values()}))
        return Index(self.layout, subjects, (self.folder / "SIMULATED").is_file(), (f"Betas are {versions}.",))

    def _list_subject(self, name: str, found: _Found) -> SubjectIndex:
        tables = [found.path.parent / table for table in ("trials.tsv", "events.tsv")]
        table = next((each for each in tables if each.is_file()), None)
        if table is None:
            raise NotFound(
                f"no trials.tsv beside {found.path.name}",
                "one row a trial with the column stimulus or stim_file",
                "Write it in the order of the trials; GLMsingle itself knows conditions by number only.",
            )
        ids, labels = read_trials(table)
        if len(ids) != found.trials:
            raise BadInput(
                f"{len(ids)} rows in {table.name} for {found.trials} trials in {found.path.name}",
                "one row a trial",
                "Give the trials that were estimated, in the order of the runs.",
            )
        _check_order(found.path.parent, ids)
        masked = (found.path.parent / "mask.nii.gz").is_file()
        return SubjectIndex(name, ids, labels, ("mask",) if masked else ("all voxels",))

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return the voxels of ``mask.nii.gz``, or all where there is none."""
        one = self.index.find(subject)
        if roi not in (None, *one.rois):
            raise NotFound(f"no region {roi!r}", f"one of {', '.join(one.rois)}", "Write mask.nii.gz beside the betas.")
        found = self._found[one.subject]
        voxels = int(np.prod(found.shape))
        if one.rois[0] != "mask":
            return Space("", one.rois[0], np.arange(voxels), voxels)
        space = read_mask_space(found.path.parent / "mask.nii.gz", "", "mask")
        if len(found.shape) == 3:
            check_stored_shape(found.path.name, found.shape, space)
        elif len(space) != voxels:
            raise BadInput(f"{voxels} voxels of betas and {len(space)} in mask.nii.gz", "one each", "Take its mask.")
        return space

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        found = self._found[subject]
        with opened_hdf5(found.path) as file:
            values = _read_voxels(find_array(file, *_BETAS), found, rows, space)
        yield np.arange(len(rows)), divide_integers(values, self.options.scale, found.path.name)

    def read_map(self, name: str, subject: str | None = None, roi: str | None = None) -> NDArray[np.float32]:
        """Read e.g. ``R2``, ``HRFindex`` or ``FRACvalue``: array (voxel,)."""
        one = self.index.find(subject)
        found = self._found[one.subject]
        space = self.find_space(subject, roi)
        with opened_hdf5(found.path) as file:
            if name not in file:
                raise NotFound(f"no {name!r} in {found.path.name}", f"one of {', '.join(file)}", "Correct the name.")
            values = np.asarray(find_array(file, name)[()], dtype=np.float32)
        flat = (values.T if found.reversed else values).ravel()
        return flat[space.places] if flat.size == space.stored else flat

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read the picture files of ``pictures``."""
        return read_named_pictures([self.folder / "pictures", self.folder / "stimuli"], ids, side)


def _describe(path: Path) -> _Found:
    reverse = sniff(path) == "mat-7.3"
    with opened_hdf5(path) as file:
        array = find_array(file, *_BETAS)
        shape = array.shape[::-1] if reverse else array.shape
    if len(shape) not in (2, 4):
        raise BadInput(f"betas of shape {shape} in {path.name}", "(i, j, k, trial) or (voxel, trial)", "Check it.")
    voxels = tuple(int(side) for side in shape[:-1])
    flat = len(voxels) == 3 and voxels[1:] == (1, 1)
    return _Found(path, voxels[:1] if flat else voxels, int(shape[-1]), reverse)


def _read_voxels(array: h5py.Dataset, found: _Found, rows: Rows, space: Space) -> NDArray[np.generic]:
    """Read the voxels of a space, some planes of the slowest axis of the file at a time."""
    whole = int(np.prod(found.shape)) == space.stored
    places = space.places if whole else np.arange(len(space))  # betas of the mask alone
    values = np.empty((len(rows), len(space)), dtype=array.dtype)
    if found.reversed:
        for row, trial in enumerate(rows.tolist()):
            values[row] = array[trial].T.ravel()[places]
        return values
    plane = int(np.prod(found.shape[1:]))
    step = max(1, _AT_ONCE // plane)
    for start in range(0, found.shape[0], step):
        here = np.flatnonzero((places >= start * plane) & (places < (start + step) * plane))
        if len(here):
            slab = array[start : start + step].reshape(-1, found.trials)
            values[:, here] = slab[places[here] - start * plane].T[rows]
    return values


def _check_order(folder: Path, ids: NDArray[np.str_]) -> None:
    """Hold the table against the order of conditions in ``DESIGNINFO``, where that is no pickle."""
    for path in (folder / f"DESIGNINFO{suffix}" for suffix in _SUFFIXES):
        if not path.is_file() or sniff(path) not in {"hdf5", "mat-7.3"}:
            continue
        with opened_hdf5(path) as file:
            if "stimorder" not in file:
                return
            order = np.ravel(find_array(file, "stimorder")[()])
        pairs = set(zip(order.tolist(), ids.tolist(), strict=False))
        if len(order) != len(ids) or len(pairs) != len(set(order.tolist())) or len(pairs) != len(set(ids.tolist())):
            raise BadInput(
                f"a trials table whose stimuli don't repeat where the conditions of {path.name} do",
                "one stimulus for each condition, in the order of the design",
                "Trials and stimuli seem misaligned: write the table from the design that GLMsingle was given.",
            )
        return
