"""Plain NIfTI: a 4-D image of one volume a trial, a mask and an events table, as `export.write_betas` writes them."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.arrays import read_trials
from voxelight.storage.formats.fmri.faults import divide_integers
from voxelight.storage.formats.fmri.pictures import read_named_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space, read_mask_space
from voxelight.storage.formats.fmri.volumes import count_volumes, read_one, read_places

_SUFFIXES = (".nii.gz", ".nii")


class _Files(NamedTuple):
    betas: Path
    events: Path
    masks: dict[str, Path]


class NiftiRecording(Recording):
    """`<stem>_betas.nii.gz`, `<stem>_events.tsv` and masks `<stem>_mask.nii.gz` or `*_mask.nii.gz`."""

    layout = "nifti"

    @cached_property
    def _files(self) -> dict[str, _Files]:
        betas = [path for suffix in _SUFFIXES for path in sorted(self.folder.glob(f"*_betas{suffix}"))]
        if not betas:
            raise NotFound(f"no *_betas.nii.gz in {self.folder}", "a 4-D image a subject", "Check the path.")
        return {_stem(path, "_betas"): self._gather(path) for path in betas}

    def _gather(self, betas: Path) -> _Files:
        stem = _stem(betas, "_betas")
        masks = {_stem(path, "_mask"): path for path in sorted(self.folder.glob("*_mask.nii*"))}
        own = {name: path for name, path in masks.items() if name == stem or name.startswith(f"{stem}_")} or masks
        events = self.folder / f"{stem}_events.tsv"
        if not own or not events.is_file():
            raise NotFound(f"no {'mask' if not own else events.name} beside {betas.name}", "both", "Copy it there.")
        return _Files(betas, events, own)

    def _list(self) -> Index:
        subjects = tuple(_list_subject(name, files) for name, files in self._files.items())
        return Index(self.layout, subjects, (self.folder / "SIMULATED").is_file())

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return the voxels of a mask."""
        one = self.index.find(subject)
        masks = self._files[one.subject].masks
        chosen = roi or one.rois[0]
        if chosen not in masks:
            raise NotFound(f"no region {chosen!r}", f"one of {', '.join(masks)}", "Correct the name.")
        return read_mask_space(masks[chosen], "", chosen)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        path = self._files[subject].betas
        for place, values in read_places(path, space, rows):
            yield place, divide_integers(values, self.options.scale, path.name)

    def read_map(self, name: str, subject: str | None = None, roi: str | None = None) -> np.ndarray:
        """Read `<stem>_<name>.nii.gz`: array (voxel,)."""
        one = self.index.find(subject)
        path = self._files[one.subject].betas.with_name(f"{one.subject}_{name}.nii.gz")
        if not path.is_file():
            raise NotFound(f"no {path.name}", "a map beside the betas", "Correct the name.")
        return read_one(path, self.find_space(subject, roi))

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read picture files, from ``pictures`` or beside the betas."""
        return read_named_pictures([self.folder / "pictures", self.folder / "stimuli", self.folder], ids, side)


def _stem(path: Path, ending: str) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    return name.removesuffix(ending)


def _list_subject(name: str, files: _Files) -> SubjectIndex:
    ids, labels = read_trials(files.events)
    volumes = count_volumes(files.betas)
    if len(ids) != volumes:
        past = "past the end, " if len(ids) > volumes else ""
        raise BadInput(
            f"{len(ids)} events in {files.events.name}, {past}for {volumes} volumes of betas in {files.betas.name}",
            "one row of events a volume",
            "Give the events of the trials that were estimated, in their order.",
        )
    return SubjectIndex(name, ids, labels, tuple(files.masks))
