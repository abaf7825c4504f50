"""Simulated subjects as `voxelight simulate` writes them."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from voxelight.models.errors import NotFound
from voxelight.models.values import Betas, Stimuli
from voxelight.storage.formats.fmri.pictures import read_named_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.simulated import read_make, read_simulated, read_voxels

_AT_ONCE = 512


class SimulatedRecording(Recording):
    """`make.json` and `sub-NN/betas.npy`, mapped into memory; always simulated."""

    layout = "simulated"

    @cached_property
    def _held(self) -> dict[str, Betas]:
        """Betas whose values stay on the disk."""
        numbers = read_make(self.folder)["subjects"]
        return {f"sub-{number:02d}": read_simulated(self.folder, number) for number in numbers}

    def _list(self) -> Index:
        subjects = tuple(
            SubjectIndex(name, each.stimulus_ids, each.labels, (each.roi,)) for name, each in self._held.items()
        )
        return Index(self.layout, subjects, simulated=True)

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return all columns: simulated voxels lie nowhere."""
        one = self.index.find(subject)
        if roi not in (None, *one.rois):
            raise NotFound(f"no region {roi!r}", ", ".join(one.rois), "Take all voxels.")
        voxels = self._held[one.subject].values.shape[1]
        return Space("", one.rois[0], np.arange(voxels), voxels)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        values = self._held[subject].values
        for start in range(0, len(rows), _AT_ONCE):
            part = np.asarray(values[rows[start : start + _AT_ONCE]])
            yield np.arange(start, start + len(part)), part

    def read_map(self, name: str, subject: str | None = None, roi: str | None = None) -> np.ndarray:
        """Read what is known of every voxel, ``ncsnr`` for one: array (voxel,)."""
        one = self.index.find(subject)
        known = read_voxels(self.folder, int(one.subject.removeprefix("sub-")))
        if name not in known:
            raise NotFound(f"no map {name!r}", f"one of {', '.join(known)}", "Correct the name.")
        return known[name]

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read picture files from ``pictures``, where the simulation's own were copied there."""
        return read_named_pictures([self.folder / "pictures"], ids, side)
