"""The containers of MindEye2 (Scotti et al. 2024): tars of behaviour beside one table of betas for each subject.

``wds/subj0X/{train,new_test,test}/*.tar`` with ``behav.npy``, ``betas_all_subj0X*.hdf5``,
``coco_images_224_float16.hdf5``, ``shared1000.npy``.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.faults import (
    check_numbering,
    find_shift,
    refuse_duplicates,
    refuse_shared_stimuli,
    refuse_shift,
    refuse_unscaled,
)
from voxelight.storage.formats.fmri.pictures import read_rows_of_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.trials import count_repeats, find_numbers, name_pictures, name_runs, name_session
from voxelight.storage.formats.fmri.webdataset import list_samples, need
from voxelight.storage.formats.hdf5 import find_array, opened_hdf5

COLUMNS = 17
PICTURE, SUBJECT, SESSION, RUN, TRIAL, GLOBAL_TRIAL, SHARED = 0, 1, 2, 3, 4, 5, 16
PICTURES, SHARED_FILE = "coco_images_224_float16.hdf5", "shared1000.npy"
_PARTS = {"train": "train", "new_test": "test", "test": "test"}
_AT_ONCE = 512


class MindEye2Recording(Recording):
    """Single trials, z-scored in each session by those who made the files."""

    layout = "mindeye2"

    @cached_property
    def _tables(self) -> dict[str, Path]:
        found = {}
        for folder in sorted((self.folder / "wds").glob("subj*")):
            files = sorted(self.folder.glob(f"betas_all_{folder.name}*.hdf5"))
            if len(files) != 1:
                raise BadInput(
                    f"{len(files)} files betas_all_{folder.name}*.hdf5", "one a subject", "Leave the one that you mean."
                )
            found[folder.name] = files[0]
        if not found:
            raise NotFound(f"no wds/subj0X in {self.folder}", "the folder of MindEye2", "Check the path.")
        return found

    def _list(self) -> Index:
        subjects = tuple(self._list_subject(name, path) for name, path in self._tables.items())
        notes = (
            "Betas were z-scored in each session before they were published, held-out trials perhaps included.",
            "`split` is that of the files: train, or test (the shared pictures; new_test where both are there).",
        )
        return Index(self.layout, subjects, (self.folder / "SIMULATED").is_file(), notes)

    def _list_subject(self, name: str, path: Path) -> SubjectIndex:
        behaviour, split = _read_behaviour(self.folder / "wds" / name)
        rows = behaviour[:, GLOBAL_TRIAL]
        refuse_duplicates("global trial", rows.tolist(), f"the tars of {name}")
        with opened_hdf5(path) as file:
            trials = find_array(file, "betas", axes=2).shape[0]
        check_numbering(rows, trials, f"the global trials of {name}")
        if set(behaviour[:, SUBJECT].tolist()) != {int(name.removeprefix("subj"))}:
            raise BadInput(f"trials of subjects {sorted(set(behaviour[:, SUBJECT].tolist()))} in {name}",
                           "one subject a folder", "Copy the tars into the folder of their subject.")  # fmt: skip
        self._check_shared(behaviour, name)
        order = np.argsort(rows)
        behaviour, split = behaviour[order], split[order]
        if self.options.sessions is not None:
            chosen = np.isin(behaviour[:, SESSION], self.options.sessions)
            if not chosen.any():
                raise BadInput(f"no trial of the sessions {self.options.sessions} of {name}", "some", "Correct them.")
            behaviour, split = behaviour[chosen], split[chosen]
        self._rows[name] = behaviour[:, GLOBAL_TRIAL]
        ids = name_pictures(behaviour[:, PICTURE])
        refuse_shared_stimuli(split, ids, name)
        sessions = np.array([name_session(number) for number in behaviour[:, SESSION].tolist()])
        labels = {
            "session": sessions,
            "run": name_runs(sessions, behaviour[:, RUN]),
            "repeat": count_repeats(ids),
            "shared": behaviour[:, SHARED].astype(str),
            "split": split,
        }
        return SubjectIndex(name, ids, labels, ("nsdgeneral",))

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.intp]]:
        """Rows of the table of betas, by subject: filled while the index is made."""
        return {}

    def _check_shared(self, behaviour: NDArray[np.intp], name: str) -> None:
        path = self.folder / SHARED_FILE
        if not path.is_file():
            return
        truth = np.load(path, allow_pickle=False).astype(bool)
        told = behaviour[:, SHARED] == 1
        refuse_shift(find_shift(behaviour[:, PICTURE], told, truth), f"the tars of {name}", SHARED_FILE)

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return all columns; the files don't say where they lie in the brain."""
        one = self.index.find(subject)
        if roi not in (None, *one.rois):
            raise NotFound(f"no region {roi!r} in {self.layout}", ", ".join(one.rois), "Take all voxels.")
        with opened_hdf5(self._tables[one.subject]) as file:
            voxels = find_array(file, "betas", axes=2).shape[1]
        return Space("func1pt8mm", one.rois[0], np.arange(voxels), voxels)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        stored = self._rows[subject][rows]
        order = np.argsort(stored, kind="stable")
        path = self._tables[subject]
        with opened_hdf5(path) as file:
            array = find_array(file, "betas", axes=2)
            for start in range(0, len(order), _AT_ONCE):
                places = order[start : start + _AT_ONCE]
                distinct, back = np.unique(stored[places], return_inverse=True)
                yield places, refuse_unscaled(array[distinct][back].astype(np.float32), path.name)

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read pictures of 224 pixels, the published downsampling of NSD's."""
        return read_rows_of_pictures(self.folder / PICTURES, ("images",), find_numbers(list(ids)), ids, side)


def _read_behaviour(folder: Path) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Return array (trial, 17) of the tars of a subject, and the part each trial belongs to."""
    rows, split = [], []
    parts = [part for part in _PARTS if (folder / part).is_dir()]
    if "new_test" in parts:  # the 40-session test set, which the 37-session one is a part of
        parts = [part for part in parts if part != "test"]
    for part in parts:
        for tar in sorted((folder / part).glob("*.tar"), key=lambda path: (len(path.name), path.name)):
            for key, sample in list_samples(tar).items():
                need(sample, key, "behav.npy")
                row = np.asarray(sample["behav.npy"].read_array(), dtype=np.float64).ravel()
                if row.shape != (COLUMNS,):
                    raise BadInput(f"behav.npy of {row.size} numbers in {tar.name}", f"{COLUMNS}", "Copy it again.")
                rows.append(np.nan_to_num(row, nan=-1).astype(np.intp))
                split.append(_PARTS[part])
    if not rows:
        raise NotFound(f"no tar in {folder}", "train/*.tar and new_test/*.tar", "Copy them there.")
    return np.stack(rows), np.array(split)
