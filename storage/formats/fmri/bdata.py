"""BData of bdpy (Kamitani lab): one HDF5 file with a matrix of samples, whose columns are voxels, labels and design."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.faults import divide_integers
from voxelight.storage.formats.fmri.pictures import read_named_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Labels, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.trials import count_repeats, name_runs
from voxelight.storage.formats.hdf5 import find_array, opened_hdf5, read_texts

VOXELS = "VoxelData"
_STIMULUS = ("stimulus_name", "stimulus_id", "image_index", "Label")
_SESSION, _RUN = "Session", "Run"
_AT_ONCE = 512


class _Table(NamedTuple):
    path: Path
    keys: tuple[str, ...]
    flags: NDArray[np.float64]  # (key, column), NaN where a key says nothing of a column
    names: dict[str, dict[float, str]]  # key -> number in the matrix -> text

    def columns(self, key: str) -> NDArray[np.intp]:
        """Columns that a key marks with 1."""
        return np.flatnonzero(self.flags[self.keys.index(key)] == 1)


class BDataRecording(Recording):
    """A ``.h5`` for each subject, old spelling (dataSet, metaData) and new."""

    layout = "bdata"

    @cached_property
    def _tables(self) -> dict[str, _Table]:
        paths = [self.folder] if self.folder.is_file() else sorted(self.folder.glob("*.h5"))
        if not paths:
            raise NotFound(f"no .h5 in {self.folder}", "a BData file a subject", "Check the path.")
        return {path.stem: _read_table(path) for path in paths}

    def _list(self) -> Index:
        simulated = any("simulated" in name.lower() for name in self._tables)
        return Index(self.layout, tuple(self._list_subject(name, table) for name, table in self._tables.items()),
                     simulated or (self._home / "SIMULATED").is_file())  # fmt: skip

    @property
    def _home(self) -> Path:
        return self.folder.parent if self.folder.is_file() else self.folder

    def _list_subject(self, name: str, table: _Table) -> SubjectIndex:
        key = next((key for key in _STIMULUS if key in table.keys), None)
        if key is None:
            raise BadInput(
                f"{table.path.name} with the keys {', '.join(table.keys)}", f"one of {', '.join(_STIMULUS)}",
                "Add what was seen in every sample.",
            )  # fmt: skip
        ids = _read_labels(table, key)
        labels: dict[str, Labels] = {}
        if _SESSION in table.keys:
            labels["session"] = np.array([f"ses-{int(float(cell)):02d}" for cell in _read_numbers(table, _SESSION)])
        if _RUN in table.keys:
            session = labels.get("session", np.full(len(ids), "ses-01"))
            labels["run"] = name_runs(session, _read_numbers(table, _RUN).astype(np.intp))
        labels["repeat"] = count_repeats(ids)
        rois = tuple(each for each in table.keys if each.startswith(("ROI_", "hcp180_")))
        return SubjectIndex(name, ids, labels, (VOXELS, *rois))

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return the columns of a region, e.g. ``ROI_V1``; all of ``VoxelData`` where none is named."""
        one = self.index.find(subject)
        chosen, table = roi or VOXELS, self._tables[one.subject]
        if chosen not in one.rois:
            raise NotFound(f"no region {chosen!r} of {one.subject}", f"one of {', '.join(one.rois)}", "Correct it.")
        columns = np.intersect1d(table.columns(VOXELS), table.columns(chosen))
        if not len(columns):
            raise BadInput(f"{table.path.name} without a voxel in {chosen}", "one or more", "Choose another region.")
        return Space("", chosen, columns, table.flags.shape[1])

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        path = self._tables[subject].path
        order = np.argsort(rows, kind="stable")
        with opened_hdf5(path) as file:
            array = find_array(file, "dataset", "dataSet", axes=2)
            for start in range(0, len(order), _AT_ONCE):
                places = order[start : start + _AT_ONCE]
                distinct, back = np.unique(rows[places], return_inverse=True)
                values = array[distinct][back][:, space.places].astype(np.float32)
                yield places, divide_integers(values, self.options.scale, path.name)

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read picture files from ``pictures`` beside the file; BData holds none."""
        return read_named_pictures([self._home / "pictures", self._home / "stimuli"], ids, side)


def _read_table(path: Path) -> _Table:
    with opened_hdf5(path) as file:
        meta = next((file[name] for name in ("metadata", "metaData") if name in file), None)
        array = find_array(file, "dataset", "dataSet", axes=2)
        if not isinstance(meta, h5py.Group) or not {"key", "value"} <= set(meta):
            raise BadInput(f"{path.name} without metadata", "BData: dataset, metadata/key, metadata/value", "Check it.")
        keys = tuple(read_texts(meta["key"]).tolist())
        flags = np.asarray(meta["value"][()], dtype=np.float64)
        if flags.shape != (len(keys), array.shape[1]) or VOXELS not in keys:
            raise BadInput(
                f"{path.name} with metadata of shape {flags.shape} for {len(keys)} keys and {array.shape[1]} columns",
                f"one flag a key and column, {VOXELS} among the keys",
                "Write it again with bdpy.",
            )
        names = {key: _read_names(file["vmap"][key]) for key in file.get("vmap", {})}
    return _Table(path, keys, flags, names)


def _read_names(group: h5py.Group) -> dict[float, str]:
    return {float(number): str(read_texts(group[number])[0]) for number in group}


def _read_numbers(table: _Table, key: str) -> NDArray[np.float64]:
    columns = table.columns(key)
    if len(columns) != 1:
        raise BadInput(f"{len(columns)} columns of {key} in {table.path.name}", "one", "Write it again with bdpy.")
    with opened_hdf5(table.path) as file:
        return np.asarray(find_array(file, "dataset", "dataSet")[:, int(columns[0])], dtype=np.float64)


def _read_labels(table: _Table, key: str) -> Labels:
    numbers = _read_numbers(table, key)
    names = table.names.get(key, {})
    return np.array([names.get(number, f"{number:.15g}") for number in numbers.tolist()])
