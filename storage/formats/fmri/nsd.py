"""The Natural Scenes Dataset as it is published (Allen et al. 2022, Nature Neuroscience 25:116)."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.faults import choose_sessions, divide_integers
from voxelight.storage.formats.fmri.nsd_design import NsdDesign, read_design
from voxelight.storage.formats.fmri.pictures import read_rows_of_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space, check_stored_shape, read_mask_space
from voxelight.storage.formats.fmri.surfaces import mgh_length, read_mgh_columns, surface_space
from voxelight.storage.formats.fmri.trials import (
    count_repeats,
    find_numbers,
    name_pictures,
    name_runs,
    name_session,
)
from voxelight.storage.formats.fmri.volumes import count_volumes, read_one, read_volumes
from voxelight.storage.formats.hdf5 import find_array, opened_hdf5

SCALE = 300.0
PICTURES = Path("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")
_FILE = re.compile(r"(?:lh\.)?betas_session(\d+)\.(nii\.gz|nii|hdf5|mgh)")
_SURFACES = ("fsaverage", "nativesurface")
_DEFAULT_SPACE, _DEFAULT_ROI = "func1pt8mm", "nsdgeneral"


class _Sessions(NamedTuple):
    folder: Path
    space: str
    files: dict[int, Path]
    trials: int  # of one session


class NsdRecording(Recording):
    """`betas_sessionNN.nii.gz` or `.hdf5` (int16, 300 times percent signal change), or `.mgh` on a surface."""

    layout = "nsd"

    @cached_property
    def _design(self) -> NsdDesign:
        return read_design(self.folder)

    @cached_property
    def _sessions(self) -> dict[str, _Sessions]:
        root = self.folder / "nsddata_betas" / "ppdata"
        people = sorted(path for path in root.glob("subj*") if path.is_dir())
        if not people:
            raise NotFound(f"no subject in {root}", "folders subj01 to subj08", "Name the folder that holds nsddata.")
        return {person.name: self._find_sessions(person) for person in people}

    def _find_sessions(self, person: Path) -> _Sessions:
        spaces = sorted(path.name for path in person.iterdir() if path.is_dir())
        preferred = _DEFAULT_SPACE if _DEFAULT_SPACE in spaces else None
        space = _choose("space", spaces, self.options.space or preferred, person)
        versions = sorted(path.name for path in (person / space).iterdir() if any(path.glob("*betas_session*")))
        folder = person / space / _choose("version", versions, self.options.version, person / space)
        files: dict[int, Path] = {}
        for path in sorted(folder.iterdir()):
            if found := _FILE.fullmatch(path.name):
                files[int(found[1])] = path  # of .hdf5 and .nii.gz the second, which streams
        chosen = choose_sessions(list(files), self.options.sessions, str(folder))
        lengths = {number: _count_trials(files[number]) for number in chosen}
        if len(set(lengths.values())) != 1:
            raise BadInput(f"sessions of {lengths} trials in {folder}", "one number of trials", "Copy them again.")
        return _Sessions(folder, space, {number: files[number] for number in chosen}, lengths[chosen[0]])

    def _list(self) -> Index:
        subjects = tuple(self._list_subject(name, each) for name, each in self._sessions.items())
        told = sorted({len(each.files) for each in self._sessions.values()})
        versions = sorted({each.folder.name for each in self._sessions.values()})
        notes = (
            f"{' and '.join(map(str, told))} sessions a subject, {', '.join(versions)}; papers take 37 or 40.",
            f"{int(self._design.shared.sum())} shared pictures; `shared` says which trials show them.",
        )
        return Index(self.layout, subjects, (self.folder / "SIMULATED").is_file(), notes)

    def _list_subject(self, name: str, sessions: _Sessions) -> SubjectIndex:
        row = int(name.removeprefix("subj")) - 1
        pictures = self._design.pictures
        last = max(sessions.files) * sessions.trials
        if row >= len(pictures) or last > pictures.shape[1]:
            raise BadInput(
                f"trial {last} of {name}, past the {pictures.shape[1]} of {len(pictures)} subjects in the design",
                "betas of trials that the design knows",
                "Take betas and design of one release.",
            )
        numbers = np.array(list(sessions.files))
        rows = ((numbers[:, None] - 1) * sessions.trials + np.arange(sessions.trials)).ravel()
        seen = pictures[row, rows]
        ids = name_pictures(seen)
        labels = {"session": np.repeat([name_session(number) for number in numbers], sessions.trials)}
        if (runs := self._number_runs(numbers, sessions.trials)) is not None:
            labels["run"] = name_runs(labels["session"], runs)
        labels["repeat"] = count_repeats(name_pictures(pictures[row, :last]))[rows]
        labels["shared"] = self._design.shared[seen].astype(int).astype(str)
        return SubjectIndex(name, ids, labels, self._list_rois(name, sessions))

    def _number_runs(self, numbers: NDArray[np.intp], trials: int) -> NDArray[np.intp] | None:
        counts = self._design.trials_a_run
        if counts is None or numbers.max() > len(counts):
            return None
        chosen = counts[numbers - 1]
        if not (chosen.sum(1) == trials).all():
            raise BadInput(
                f"sessions of {trials} trials and a design of {sorted(set(chosen.sum(1).tolist()))}",
                "one number of trials",
                "Take betas and design of one release.",
            )
        return np.concatenate([np.repeat(np.arange(1, len(each) + 1), each) for each in chosen])

    def _list_rois(self, name: str, sessions: _Sessions) -> tuple[str, ...]:
        if sessions.space in _SURFACES:
            return ("all vertices",)
        masks = sorted(path.name.removesuffix(".nii.gz") for path in self._roi_folder(name).glob("*.nii.gz"))
        plain = [mask for mask in masks if not mask.startswith(("lh.", "rh."))]
        return tuple(sorted(plain, key=lambda mask: mask != _DEFAULT_ROI))

    def _roi_folder(self, name: str) -> Path:
        return self.folder / "nsddata" / "ppdata" / name / self._sessions[name].space / "roi"

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return the voxels of a region; of a map of areas some only by their numbers, ``prf-visualrois:1,2``."""
        one = self.index.find(subject)
        sessions = self._sessions[one.subject]
        if sessions.space in _SURFACES:
            left = next(iter(sessions.files.values()))
            return surface_space(sessions.space, mgh_length(left), mgh_length(_right(left)))
        chosen, _, numbers = (roi or (one.rois or ("",))[0]).partition(":")
        if chosen not in one.rois:
            raise NotFound(
                f"no region {chosen!r} of {one.subject} in {self._roi_folder(one.subject)}",
                f"one of {', '.join(one.rois) or 'the masks of NSD'}",
                "Copy the folder roi beside the betas, or correct the name.",
            )
        values = tuple(int(number) for number in numbers.split(",")) if numbers else ()
        path = self._roi_folder(one.subject) / f"{chosen}.nii.gz"
        return read_mask_space(path, sessions.space, roi or chosen, values=values)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        sessions = self._sessions[subject]
        owner = rows // sessions.trials
        for place, (number, path) in enumerate(sessions.files.items()):
            mine = np.flatnonzero(owner == place)
            if len(mine):
                values = _read_session(path, rows[mine] - place * sessions.trials, space)
                yield mine, divide_integers(values, self.options.scale or SCALE, f"session {number} of {subject}")

    def read_map(self, name: str, subject: str | None = None, roi: str | None = None) -> NDArray[np.float32]:
        """Read ``ncsnr``, or any other 3-D map beside the betas: array (voxel,)."""
        one = self.index.find(subject)
        path = self._sessions[one.subject].folder / f"{name}.nii.gz"
        if not path.is_file():
            raise NotFound(f"no {path.name} beside the betas of {one.subject}", "a map of NSD", "Copy it there.")
        return read_one(path, self.find_space(subject, roi))

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read pictures of ``nsd_stimuli.hdf5``, whose rows count from 0."""
        path = self.folder / PICTURES
        return read_rows_of_pictures(path, ("imgBrick",), find_numbers(list(ids)), ids, side)


def _choose(what: str, there: list[str], asked: str | None, where: Path) -> str:
    if asked is not None and asked in there:
        return asked
    if asked is None and len(there) == 1:
        return there[0]
    raise NotFound(
        f"{'no ' + what + ' ' + repr(asked) if asked else str(len(there)) + ' of ' + what} in {where}",
        f"one of {', '.join(there) or 'those of NSD'}",
        f"Name the {what}.",
    )


def _count_trials(path: Path) -> int:
    if path.suffix == ".hdf5":
        with opened_hdf5(path) as file:
            return int(find_array(file, "betas").shape[0])
    if path.suffix == ".mgh":
        return mgh_length(path, of_trials=True)
    return count_volumes(path)


def _right(left: Path) -> Path:
    right = left.with_name(left.name.replace("lh.", "rh.", 1))
    if not right.is_file():
        raise NotFound(f"no {right.name} beside {left.name}", "both hemispheres", "Copy the other one.")
    return right


def _read_session(path: Path, trials: Rows, space: Space) -> NDArray[Any]:
    if path.suffix == ".mgh":
        return np.concatenate([read_mgh_columns(each, trials) for each in (path, _right(path))], axis=1)
    if path.suffix == ".hdf5":
        return _read_planes(path, trials, space)
    return read_volumes(path, space, trials)


def _read_planes(path: Path, trials: Rows, space: Space) -> NDArray[Any]:
    """Read a session a plane at a time, as its chunks lie; MATLAB's order stands reversed in HDF5: trial, k, j, i."""
    with opened_hdf5(path) as file:
        array = find_array(file, "betas", axes=4)
        check_stored_shape(path.name, array.shape[:0:-1], space)
        values = np.empty((len(trials), len(space)), dtype=array.dtype)
        i, j, k = np.unravel_index(space.places, array.shape[:0:-1])
        for plane in np.unique(k).tolist():
            here = np.flatnonzero(k == plane)
            values[:, here] = array[:, plane, :, :][trials][:, j[here], i[here]]
    return values
