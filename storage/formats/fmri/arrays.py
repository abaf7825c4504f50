"""Plain tables of betas: ``betas.npy`` mapped into memory, beside ``trials.tsv`` and a folder of pictures."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.betas import read_stimulus_ids
from voxelight.storage.formats.fmri.faults import divide_integers, refuse_duplicates
from voxelight.storage.formats.fmri.pictures import read_named_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Labels, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.trials import count_repeats
from voxelight.storage.formats.sniff import NAMES, sniff
from voxelight.storage.formats.tables import read_columns

_AT_ONCE = 512
_RENAMED = {"trial_type": "category"}
_SEEN = {"stim_file", "stimulus", "label"}
_KEYS = ("session", "run", "trial", "onset")


def open_array(path: Path, axes: int) -> NDArray[Any]:
    """Map a ``.npy`` into memory, refusing pickles.

    Raises
    ------
    NotFound
        There is no such file.
    BadInput
        It is a pickle, damaged or cut short, or has other axes.
    """
    if not path.is_file():
        raise NotFound(f"no file {path.name} in {path.parent}", "a NumPy array", "Copy it there.")
    kind = sniff(path)
    remedy = "Save it with numpy.save as an array of numbers; objects are pickles, which can run code when opened."
    if kind != "npy":
        raise BadInput(f"{NAMES[kind]} under the name {path.name}", "a NumPy array", remedy)
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadInput(f"{path.name}, cut short or not of numbers ({error})", "a whole array", remedy) from error
    if array.ndim != axes or array.dtype.kind not in "iuf":
        raise BadInput(f"{path.name} of shape {array.shape} and {array.dtype}", f"numbers along {axes} axes", remedy)
    return array


def read_trials(path: Path) -> tuple[Labels, dict[str, Labels]]:
    """Read an events or trials table: what was seen in each row, and every other column as a label.

    Raises
    ------
    BadInput
        A row has no stimulus, or one trial stands in two rows.
    """
    columns = {name.lower(): cells for name, cells in read_columns(path).items()}
    if "label" in columns and not {"stim_file", "stimulus"} & set(columns):
        columns["stimulus"] = columns["label"]
    ids = read_stimulus_ids(columns, path.name)
    keys = [name for name in _KEYS if name in columns]
    if {"trial", "onset"} & set(keys):
        refuse_duplicates(", ".join(keys), list(zip(*(columns[name] for name in keys), strict=True)), path.name)
    labels = {_RENAMED.get(name, name): np.array(cells) for name, cells in columns.items() if name not in _SEEN}
    if {"session", "run"} <= set(labels):  # runs are numbered anew in each session
        pairs = zip(labels["session"].tolist(), labels["run"].tolist(), strict=True)
        labels["run"] = np.array([run if run.startswith(session) else f"{session}-{run}" for session, run in pairs])
    labels.setdefault("repeat", count_repeats(ids))
    return ids, labels


class ArrayRecording(Recording):
    """A table (trial, voxel) for each subject: ``betas.npy``, or ``<subject>/betas.npy``."""

    layout = "npy"

    @cached_property
    def _folders(self) -> dict[str, Path]:
        if (self.folder / "betas.npy").is_file():
            return {"01": self.folder}
        found = {path.parent.name: path.parent for path in sorted(self.folder.glob("*/betas.npy"))}
        if not found:
            raise NotFound(f"no betas.npy in {self.folder}", "one, or one a subject", "Check the path.")
        return found

    def _list(self) -> Index:
        subjects = tuple(self._list_subject(name, folder) for name, folder in self._folders.items())
        return Index(self.layout, subjects, (self.folder / "SIMULATED").is_file())

    def _list_subject(self, name: str, folder: Path) -> SubjectIndex:
        ids, labels = read_trials(folder / "trials.tsv")
        rows = len(open_array(folder / "betas.npy", 2))
        if rows != len(ids):
            raise BadInput(
                f"{len(ids)} rows in trials.tsv for {rows} rows of betas.npy", "one each", "Take both of one making."
            )
        return SubjectIndex(name, ids, labels, ("all voxels",))

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return all columns; a plain table doesn't say where they lie in the brain."""
        one = self.index.find(subject)
        if roi not in (None, *one.rois):
            raise NotFound(f"no region {roi!r} in a plain table", ", ".join(one.rois), "Take all voxels.")
        voxels = open_array(self._folders[one.subject] / "betas.npy", 2).shape[1]
        return Space("", one.rois[0], np.arange(voxels), voxels)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        array = open_array(self._folders[subject] / "betas.npy", 2)
        for start in range(0, len(rows), _AT_ONCE):
            part = np.asarray(array[rows[start : start + _AT_ONCE]])
            places = np.arange(start, start + len(part))
            yield places, divide_integers(part, self.options.scale, f"betas.npy of {subject}")

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read the picture files of ``pictures``, or those beside the table."""
        folders = [self.folder / "pictures", self.folder / "stimuli", *self._folders.values()]
        return read_named_pictures(folders, ids, side)
