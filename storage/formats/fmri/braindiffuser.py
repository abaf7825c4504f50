"""The arrays of brain-diffuser (Ozcelik and VanRullen 2023): repeats averaged, training and test apart.

``nsd_{train,test}_fmriavg_nsdgeneral_sub{n}.npy`` and ``nsd_{train,test}_stim_sub{n}.npy``.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.arrays import open_array
from voxelight.storage.formats.fmri.faults import divide_integers
from voxelight.storage.formats.fmri.pictures import settle_picture, stack_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space

PARTS = ("train", "test")
_FILE = re.compile(r"nsd_(train|test)_fmriavg_nsdgeneral_sub(\d+)\.npy")
_AT_ONCE = 512


class BrainDiffuserRecording(Recording):
    """Averages, which the files don't name by picture: a stimulus is called by its row, e.g. ``sub1-test-0003``."""

    layout = "brain-diffuser"

    @cached_property
    def _files(self) -> dict[str, dict[str, Path]]:
        found: dict[str, dict[str, Path]] = {}
        for path in sorted(self.folder.rglob("nsd_*_fmriavg_nsdgeneral_sub*.npy")):
            if named := _FILE.fullmatch(path.name):
                found.setdefault(f"subj{int(named[2]):02d}", {})[named[1]] = path
        if not found:
            raise NotFound(f"no nsd_train_fmriavg_nsdgeneral_sub1.npy below {self.folder}", "one", "Check the path.")
        return found

    def _list(self) -> Index:
        subjects = tuple(self._list_subject(name, files) for name, files in self._files.items())
        notes = ("Repeats are averaged already, so nothing says how well they agree.",)
        return Index(self.layout, subjects, (self.folder / "SIMULATED").is_file(), notes)

    def _list_subject(self, name: str, files: dict[str, Path]) -> SubjectIndex:
        counts = {part: len(open_array(files[part], 2)) for part in PARTS if part in files}
        number = int(name.removeprefix("subj"))
        ids = [f"sub{number}-{part}-{row:04d}" for part, count in counts.items() for row in range(count)]
        split = np.repeat(np.array(list(counts)), list(counts.values()))
        return SubjectIndex(name, np.array(ids), {"split": split}, ("nsdgeneral",))

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return all columns; the files don't say where they lie in the brain."""
        one = self.index.find(subject)
        if roi not in (None, *one.rois):
            raise NotFound(f"no region {roi!r} in {self.layout}", ", ".join(one.rois), "Take all voxels.")
        widths = {path.name: open_array(path, 2).shape[1] for path in self._files[one.subject].values()}
        if len(set(widths.values())) != 1:
            raise BadInput(f"files of {widths} voxels", "one number", "Take both parts of one preparation.")
        voxels = next(iter(widths.values()))
        return Space("func1pt8mm", one.rois[0], np.arange(voxels), voxels)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        start = 0
        for part in PARTS:
            if part not in self._files[subject]:
                continue
            path = self._files[subject][part]
            array = open_array(path, 2)
            mine = np.flatnonzero((rows >= start) & (rows < start + len(array)))
            for at in range(0, len(mine), _AT_ONCE):
                places = mine[at : at + _AT_ONCE]
                yield places, divide_integers(np.asarray(array[rows[places] - start]), self.options.scale, path.name)
            start += len(array)

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read pictures of ``nsd_{train,test}_stim_sub{n}.npy``, mapped into memory."""
        arrays: dict[tuple[str, str], NDArray[Any]] = {}
        images = []
        for name in ids:
            subject, part, row = name.split("-")
            if (subject, part) not in arrays:
                path = self._files[f"subj{int(subject.removeprefix('sub')):02d}"][part].parent
                arrays[subject, part] = open_array(path / f"nsd_{part}_stim_{subject}.npy", 4)
            images.append(settle_picture(np.asarray(arrays[subject, part][int(row)]), name, side))
        return stack_pictures(images, ids)
