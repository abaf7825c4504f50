"""Haxby et al. (2001, Science 293:2425) as nilearn and PyMVPA lay it out: BOLD of blocks, one category a block."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.neuro.recipes import RunOptions
from voxelight.neuro.runs import average_blocks, find_blocks
from voxelight.storage.formats.fmri.pictures import read_named_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Labels, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space, read_mask_space
from voxelight.storage.formats.fmri.volumes import count_volumes, read_volumes

_TABLES = ("labels.txt", "attributes_literal.txt")
_REST = "rest"


class _Subject(NamedTuple):
    folder: Path
    categories: Labels  # of every volume
    runs: NDArray[np.intp]  # of every volume
    blocks: list[tuple[int, int]]  # volumes in the file


class HaxbyRecording(Recording):
    """`bold.nii.gz` with a label and a run for every volume; betas are the means of blocks, `lag_volumes` later.

    A stimulus is a category: the pictures of a block differ, and no file says which were shown when.
    """

    layout = "haxby"

    @cached_property
    def _people(self) -> dict[str, _Subject]:
        folders = [self.folder, *sorted(path for path in self.folder.iterdir() if path.is_dir())]
        found = {path.name: path for path in folders if (path / "bold.nii.gz").is_file()}
        if not found:
            raise NotFound(f"no bold.nii.gz in {self.folder}", "one, or one a subject", "Check the path.")
        return {name: _read_subject(path) for name, path in found.items()}

    def _list(self) -> Index:
        notes = (f"Block betas: means of blocks, {self.options.lag_volumes} volumes later, each run by itself.",)
        people = tuple(self._list_subject(name, each) for name, each in self._people.items())
        return Index(self.layout, people, (self.folder / "SIMULATED").is_file(), notes)

    def _list_subject(self, name: str, one: _Subject) -> SubjectIndex:
        first = np.array([start for start, _ in one.blocks])
        runs = np.array([f"run-{run + 1:02d}" for run in one.runs[first]])
        masks = tuple(sorted(path.name.removesuffix(".nii.gz") for path in one.folder.glob("mask*.nii.gz")))
        if not masks:
            raise NotFound(f"no mask*.nii.gz beside {one.folder / 'bold.nii.gz'}", "a mask", "Copy one there.")
        ids = one.categories[first]
        return SubjectIndex(name, ids, {"category": ids, "run": runs}, masks)

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return the voxels of a mask, e.g. ``mask4_vt``."""
        one = self.index.find(subject)
        chosen = roi or one.rois[0]
        if chosen not in one.rois:
            raise NotFound(f"no region {chosen!r}", f"one of {', '.join(one.rois)}", "Correct the name.")
        return read_mask_space(self._people[one.subject].folder / f"{chosen}.nii.gz", "native", chosen)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        one = self._people[subject]
        options = RunOptions(lag_volumes=self.options.lag_volumes)
        starts = np.array([start for start, _ in one.blocks])[rows]
        for run in np.unique(one.runs).tolist():
            volumes = np.flatnonzero(one.runs == run)
            mine = np.flatnonzero(np.isin(starts, volumes))
            if len(mine):
                bold = read_volumes(one.folder / "bold.nii.gz", space, volumes)
                blocks = [(start - volumes[0], stop - volumes[0]) for start, stop in one.blocks if start in volumes]
                values, kept = average_blocks(bold, blocks, options)
                place = {one_start: row for row, one_start in enumerate(volumes[0] + np.array(blocks)[kept, 0])}
                yield mine, values[[place[start] for start in starts[mine].tolist()]]

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read a picture for each category from ``pictures``, where someone put one."""
        return read_named_pictures([self.folder / "pictures"], ids, side)


def _read_subject(folder: Path) -> _Subject:
    table = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
    if table is None:
        raise NotFound(f"no {' or '.join(_TABLES)} in {folder}", "a label and a run a volume", "Copy it there.")
    lines = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = lines[1:] if lines and lines[0] == ["labels", "chunks"] else lines
    if any(len(line) != 2 or not line[1].isdigit() for line in lines):
        raise BadInput(f"{table.name} with a line that isn't a label and a number", "two columns", "Copy it again.")
    volumes = count_volumes(folder / "bold.nii.gz")
    if volumes != len(lines):
        more = "past the end of the run" if len(lines) > volumes else "and volumes without a label"
        raise BadInput(
            f"{len(lines)} labels in {table.name} for {volumes} volumes, {more}", "one a volume", "Pair both files."
        )
    categories, runs = (np.array(column) for column in zip(*lines, strict=True))
    numbers = runs.astype(np.intp)
    if (np.diff(numbers) < 0).any():
        raise BadInput(f"{table.name} whose runs are not in order", "runs that follow each other", "Sort both files.")
    return _Subject(folder, categories, numbers, _find_blocks(categories, numbers))


def _find_blocks(categories: Labels, runs: NDArray[np.intp]) -> list[tuple[int, int]]:
    _, codes = np.unique(categories, return_inverse=True)
    codes = np.where(categories == _REST, -1, codes)
    blocks = []
    for run in np.unique(runs).tolist():
        volumes = np.flatnonzero(runs == run)
        blocks += [
            (start + volumes[0], stop + volumes[0])
            for start, stop in find_blocks(codes[volumes, None].astype(np.float64))
        ]
    return blocks
