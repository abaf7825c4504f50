"""Betas on a surface with an events table: .mgh or GIFTI of both hemispheres, or one CIFTI in fsLR."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.arrays import read_trials
from voxelight.storage.formats.fmri.faults import refuse_unscaled
from voxelight.storage.formats.fmri.pictures import read_named_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.surfaces import (
    CIFTI,
    cifti_space,
    count_cifti,
    mgh_length,
    read_cifti_rows,
    read_gifti_columns,
    read_mgh_columns,
    surface_space,
)

_LEFT = re.compile(r"(?:lh\.(?P<a>.+)_betas\.mg[hz])|(?:(?P<b>.+)_hemi-L_(?P<rest>.*)betas\.func\.gii)")
_SPACE = re.compile(r"space-([A-Za-z0-9]+)")
_CORTEX, _ALL = "cortex", "all"


class _Files(NamedTuple):
    left: Path
    right: Path | None  # None: a CIFTI file, which holds both
    events: Path


class SurfaceRecording(Recording):
    """`lh.S_betas.mgh` and `rh.S_betas.mgh`, `S_hemi-L_betas.func.gii` and `hemi-R`, or `S_betas.dscalar.nii`.

    Events stand in ``S_events.tsv``, one row a trial.
    """

    layout = "surface"

    @cached_property
    def _files(self) -> dict[str, _Files]:
        found: dict[str, _Files] = {}
        for path in sorted(self.folder.iterdir()):
            if path.name.endswith(CIFTI) and "betas" in path.name:
                stem = path.name.split("_space-")[0].split("_betas")[0]
                files = _Files(path, None, self.folder / f"{stem}_events.tsv")
            elif named := _LEFT.fullmatch(path.name):
                stem = named["a"] or named["b"]
                right = path.name.replace("lh.", "rh.", 1) if named["a"] else path.name.replace("_hemi-L_", "_hemi-R_")
                files = _Files(path, self.folder / right, self.folder / f"{stem}_events.tsv")
            else:
                continue
            missing = [each.name for each in files[1:] if each is not None and not each.is_file()]
            if missing or stem in found:
                raise NotFound(f"{missing or 'two betas'} of {stem}", "two hemispheres and events", "Check the folder.")
            found[stem] = files
        if not found:
            raise NotFound(f"no surface betas in {self.folder}", "lh.S_betas.mgh for one", "Check the names.")
        return found

    def _list(self) -> Index:
        subjects = tuple(self._list_subject(name, files) for name, files in self._files.items())
        return Index(self.layout, subjects, (self.folder / "SIMULATED").is_file())

    def _list_subject(self, name: str, files: _Files) -> SubjectIndex:
        ids, labels = read_trials(files.events)
        counts = {path.name: _count(path) for path in files[:2] if path is not None}
        if set(counts.values()) != {len(ids)}:
            raise BadInput(f"{len(ids)} rows of events for {counts} trials", "one each", "Take files of one making.")
        return SubjectIndex(name, ids, labels, (_ALL, _CORTEX) if files.right is None else (_ALL,))

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return all vertices; of CIFTI all grayordinates, or those of the cortex alone."""
        one = self.index.find(subject)
        if roi not in (None, *one.rois):
            raise NotFound(f"no region {roi!r}", f"one of {', '.join(one.rois)}", "Correct the name.")
        files = self._files[one.subject]
        if files.right is None:
            return cifti_space(files.left, cortex_only=roi == _CORTEX)
        named = _SPACE.search(files.left.name)
        left, right = (_read(path, np.zeros(1, dtype=np.intp)).shape[1] for path in (files.left, files.right))
        return surface_space(named[1] if named else "", left, right)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        files = self._files[subject]
        parts = [_read(path, rows) for path in files[:2] if path is not None]
        yield np.arange(len(rows)), refuse_unscaled(np.concatenate(parts, axis=1)[:, space.places], files.left.name)

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read picture files, from ``pictures`` or beside the betas."""
        return read_named_pictures([self.folder / "pictures", self.folder / "stimuli", self.folder], ids, side)


def _count(path: Path) -> int:
    if path.name.endswith(CIFTI):
        return count_cifti(path)
    return mgh_length(path, of_trials=True) if path.suffix in (".mgh", ".mgz") else len(read_gifti_columns(path))


def _read(path: Path, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    if path.name.endswith(CIFTI):
        return read_cifti_rows(path, rows)
    return read_mgh_columns(path, rows) if path.suffix in (".mgh", ".mgz") else read_gifti_columns(path, rows)
