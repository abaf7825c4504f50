"""A MATLAB file that holds betas and pictures, as Miyawaki et al. (2008) are passed on."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from voxelight.models.errors import NotFound
from voxelight.models.values import Betas, Stimuli
from voxelight.storage.formats.betas import read_betas_mat
from voxelight.storage.formats.fmri.faults import refuse_unscaled
from voxelight.storage.formats.fmri.recording import Block, Index, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.trials import count_repeats
from voxelight.storage.formats.images import square


class MatRecording(Recording):
    """`fmriTrn`, `stimTrn`, `labelTrn`: the format is packed, so the index already reads the file, once."""

    layout = "mat"

    @cached_property
    def _path(self) -> Path:
        paths = [self.folder] if self.folder.is_file() else sorted(self.folder.glob("*.mat"))
        if len(paths) != 1:
            raise NotFound(f"{len(paths)} .mat in {self.folder}", "one", "Name the file itself.")
        return paths[0]

    @cached_property
    def _held(self) -> tuple[Betas, Stimuli]:
        return read_betas_mat(self._path)

    def _list(self) -> Index:
        betas, _ = self._held
        labels = betas.labels | {"repeat": count_repeats(betas.stimulus_ids)}
        simulated = (self._path.parent / "SIMULATED").is_file()
        one = SubjectIndex(betas.subject, betas.stimulus_ids, labels, (betas.roi,))
        return Index(self.layout, (one,), simulated)

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return all columns; the file doesn't say where they lie in the brain."""
        one = self.index.find(subject)
        if roi not in (None, *one.rois):
            raise NotFound(f"no region {roi!r} in {self._path.name}", ", ".join(one.rois), "Take all voxels.")
        voxels = self._held[0].values.shape[1]
        return Space("", one.rois[0], np.arange(voxels), voxels)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        yield np.arange(len(rows)), refuse_unscaled(self._held[0].values[rows], self._path.name)

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Return pictures of the file."""
        chosen = self._held[1].select(np.array(list(ids)))
        if side is None:
            return chosen
        return Stimuli(np.stack([square(image, side) for image in chosen.images]), chosen.ids)
