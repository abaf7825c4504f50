"""A table of betas in one HDF5 file: ``betas`` (trial, voxel) with ``stimulus``, labels and, where known, pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.faults import divide_integers
from voxelight.storage.formats.fmri.pictures import read_named_pictures, read_rows_of_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Labels, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.trials import count_repeats
from voxelight.storage.formats.hdf5 import find_array, opened_hdf5, read_texts

_LABELS = ("session", "run", "category", "group", "split")
_AT_ONCE = 512
_MOST_VOXELS = 10**8


class Hdf5Recording(Recording):
    """`betas`, `stimulus` (trial,), `session`, `run`, `category`, `group`; `images`, `image_ids`; attribute scale."""

    layout = "hdf5"

    @property
    def _path(self) -> Path:
        if self.folder.is_file():
            return self.folder
        found = [path for path in sorted(self.folder.iterdir()) if path.suffix in (".h5", ".hdf5")]
        if len(found) != 1:
            raise NotFound(f"{len(found)} HDF5 files in {self.folder}", "one", "Name the file itself.")
        return found[0]

    def _list(self) -> Index:
        with opened_hdf5(self._path) as file:
            trials = find_array(file, "betas", axes=2).shape[0]
            if "stimulus" not in file:
                raise BadInput(f"{self._path.name} without stimulus", "what was seen in every trial", "Add it.")
            ids = read_texts(file["stimulus"])
            labels: dict[str, Labels] = {name: read_texts(file[name]) for name in _LABELS if name in file}
            told = (str(file.attrs.get("subject", "01")), bool(file.attrs.get("simulated", False)))
        if len(ids) != trials:
            raise BadInput(f"{len(ids)} stimuli for {trials} rows of betas", "one a trial", "Write both again.")
        labels.setdefault("repeat", count_repeats(ids))
        return Index(self.layout, (SubjectIndex(told[0], ids, labels, ("all voxels",)),), told[1])

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return all columns; a plain table doesn't say where they lie in the brain."""
        one = self.index.find(subject)
        if roi not in (None, *one.rois):
            raise NotFound(f"no region {roi!r} in a plain table", ", ".join(one.rois), "Take all voxels.")
        with opened_hdf5(self._path) as file:
            voxels = find_array(file, "betas", axes=2).shape[1]
        if voxels > _MOST_VOXELS:
            raise BadInput(
                f"{self._path.name} that claims {voxels} voxels", f"at most {_MOST_VOXELS}", "Check the file."
            )
        return Space("", one.rois[0], np.arange(voxels), voxels)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        order = np.argsort(rows, kind="stable")
        with opened_hdf5(self._path) as file:
            array = find_array(file, "betas", axes=2)
            scale = self.options.scale or array.attrs.get("scale")
            for start in range(0, len(order), _AT_ONCE):
                places = order[start : start + _AT_ONCE]
                distinct, back = np.unique(rows[places], return_inverse=True)
                yield places, divide_integers(array[distinct][back], scale, self._path.name)

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read `images` of the file, or files in ``pictures`` beside it."""
        with opened_hdf5(self._path) as file:
            named = read_texts(file["image_ids"]).tolist() if "image_ids" in file else None
        if named is None:
            return read_named_pictures([self._path.parent / "pictures"], ids, side)
        missing = [name for name in ids if name not in named]
        if missing:
            raise NotFound(f"{len(missing)} stimuli not in image_ids, {missing[0]} for one", "all", "Add them.")
        rows = np.array([named.index(name) for name in ids])
        return read_rows_of_pictures(self._path, ("images",), rows, ids, side)
