"""LAION-fMRI and what is laid out like it: BIDS derivatives of single-trial betas with a trials table a session."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.betas import read_stimulus_ids
from voxelight.storage.formats.fmri.faults import (
    choose_sessions,
    divide_integers,
    refuse_duplicates,
    refuse_shared_stimuli,
)
from voxelight.storage.formats.fmri.pictures import read_named_pictures, read_rows_of_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Labels, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space, read_mask_space
from voxelight.storage.formats.fmri.trials import count_repeats, name_runs
from voxelight.storage.formats.fmri.volumes import count_volumes, read_one, read_places
from voxelight.storage.formats.tables import read_columns

_BETAS = re.compile(r"(sub-[^_]+)_(ses-[^_]+)_(.*)_stat-effect_desc-SingletrialBetas_statmap\.nii(?:\.gz)?")
_MASK = re.compile(r".*_label-([^_]+)_mask\.nii\.gz")
_BRAIN = "brain"
SPLIT = "split_"  # label of trials, before the name of a split
SPLIT_KINDS = ("random", "cluster_k5", "tau", "ood")


class _Session(NamedTuple):
    number: int
    label: str
    betas: Path
    trials: Path


class LaionRecording(Recording):
    """`..._stat-effect_desc-SingletrialBetas_statmap.nii.gz` with `_trials.tsv`; the brain is where R2mean > 0."""

    layout = "laion-fmri"

    @cached_property
    def _sessions(self) -> dict[str, list[_Session]]:
        found: dict[str, list[_Session]] = {}
        for path in sorted(self.folder.rglob("*_desc-SingletrialBetas_statmap.nii*")):
            if named := _BETAS.fullmatch(path.name):
                task = re.sub(r"_?space-[^_]+(_res-[^_]+)?", "", named[3])
                table = path.with_name(f"{named[1]}_{named[2]}_{task}_desc-SingletrialBetas_trials.tsv")
                label = named[2].removeprefix("ses-")
                number = int(label) if label.isdigit() else len(found.get(named[1], [])) + 1
                found.setdefault(named[1], []).append(_Session(number, named[2], path, table))
        if not found:
            raise NotFound(f"no _desc-SingletrialBetas_statmap.nii.gz below {self.folder}", "one", "Check the path.")
        for subject, sessions in found.items():
            there = [each.number for each in sessions]
            refuse_duplicates("session", there, f"{subject}, where several spaces or tasks lie")
            chosen = choose_sessions(there, self.options.sessions, subject)
            found[subject] = [each for each in sessions if each.number in chosen]
        return found

    def _list(self) -> Index:
        subjects = tuple(self._list_subject(name, sessions) for name, sessions in self._sessions.items())
        splits = ", ".join(self.list_splits()) or "none"
        notes = (f"Splits beside the data: {splits}. A training takes one by its name.",)
        return Index(self.layout, subjects, (self.folder / "SIMULATED").is_file(), notes)

    def _list_subject(self, name: str, sessions: list[_Session]) -> SubjectIndex:
        tables = [_read_trials(each) for each in sessions]
        counts = [len(ids) for ids, _ in tables]
        ids = np.concatenate([ids for ids, _ in tables])
        visits = np.repeat([each.label for each in sessions], counts)
        labels = {
            "session": visits,
            "run": name_runs(visits, np.concatenate([runs for _, runs in tables])),
            "repeat": count_repeats(ids),
            "shared": np.array([str(int(stimulus.startswith("shared"))) for stimulus in ids.tolist()]),
        }
        labels |= {f"{SPLIT}{split}": self._share_out(split, ids) for split in self.list_splits()}
        return SubjectIndex(name, ids, labels, (_BRAIN, *self._masks(name)))

    def _masks(self, subject: str) -> dict[str, Path]:
        folder = self.folder / "derivatives" / "rois" / subject
        named = ((path, _MASK.fullmatch(path.name)) for path in sorted(folder.rglob("*_mask.nii.gz")))
        masks = {match[1]: path for path, match in named if match and "res-1pt5" not in path.name}
        return dict(sorted(masks.items()))

    def _find_map(self, subject: str, name: str) -> Path:
        folder = self._sessions[subject][0].betas.parents[2]
        found = sorted(folder.glob(f"{subject}_*desc-{name}_statmap.nii.gz"))
        if len(found) != 1:
            raise NotFound(f"{len(found)} files *_desc-{name}_statmap.nii.gz of {subject}", "one", "Copy it there.")
        return found[0]

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return the voxels of a mask, or of ``brain``."""
        one = self.index.find(subject)
        if roi in (None, _BRAIN):
            return read_mask_space(self._find_map(one.subject, "R2mean"), "T1w", _BRAIN)
        masks = self._masks(one.subject)
        if roi not in masks:
            known = ", ".join(one.rois)
            raise NotFound(f"no region {roi!r} of {one.subject}", f"one of {known}", "Correct the name.")
        return read_mask_space(masks[roi], "T1w", roi)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        sessions = self._sessions[subject]
        counts = np.array([count_volumes(each.betas) for each in sessions])
        ends = np.cumsum(counts)
        owner = np.searchsorted(ends, rows, side="right")
        for number, session in enumerate(sessions):
            mine = np.flatnonzero(owner == number)
            trials = rows[mine] - (ends[number] - counts[number])
            for place, values in read_places(session.betas, space, trials):
                yield mine[place], divide_integers(values, self.options.scale, session.betas.name)

    def read_map(self, name: str, subject: str | None = None, roi: str | None = None) -> NDArray[np.float32]:
        """Read e.g. ``Noiseceiling12rep`` (percent of explainable variance) or ``R2mean``: array (voxel,)."""
        one = self.index.find(subject)
        return read_one(self._find_map(one.subject, name), self.find_space(subject, roi))

    def list_splits(self) -> tuple[str, ...]:
        """Return the names of the splits that lie in ``splits`` as JSON, e.g. ``tau`` or ``cluster_k5_0``."""
        names = sorted(path.stem for path in (self.folder / "splits").glob("*.json"))
        return tuple(name for name in names if name.startswith(SPLIT_KINDS))

    def read_split(self, name: str, subject: str | None = None) -> Labels:
        """Return the part of every trial in a split: ``train``, ``test``, or ``none`` where it names neither.

        Parameters
        ----------
        name : one of `list_splits`; the file holds the names of images as ``{"train": [...], "test": [...]}``
        subject : whose trials

        Raises
        ------
        NotFound
            There is no such split.
        Leak
            A stimulus is on both sides.
        """
        if name not in self.list_splits():
            raise NotFound(f"no split {name!r}", f"one of {', '.join(self.list_splits()) or '-'}", "Correct the name.")
        return self._share_out(name, self.index.find(subject).stimulus_ids)

    def _share_out(self, name: str, ids: Labels) -> Labels:
        """Return the part of every stimulus."""
        told = json.loads((self.folder / "splits" / f"{name}.json").read_text(encoding="utf-8"))
        parts = {part: {Path(image).stem for image in told.get(part, [])} for part in ("train", "test")}
        sides = np.array([part for part, images in parts.items() for _ in images])
        refuse_shared_stimuli(sides, np.array([image for images in parts.values() for image in images]), name)
        train, test = (np.isin(ids, sorted(parts[part])) for part in ("train", "test"))
        return np.where(train, "train", np.where(test, "test", "none"))

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read pictures of ``stimuli``: the HDF5 with its metadata table, or image files."""
        folder = self.folder / "stimuli"
        stack, table = folder / "task-images_stimuli.h5", folder / "task-images_metadata.csv"
        if not stack.is_file():
            return read_named_pictures([folder / "images", folder], ids, side)
        columns = read_columns(table)
        column = next((name for name in ("image_name", "label", "filename") if name in columns), None)
        if column is None:
            raise BadInput(f"{table.name} with {', '.join(columns)}", "a column image_name", "Copy it again.")
        place = {Path(cell).stem: row for row, cell in enumerate(columns[column])}
        missing = [name for name in ids if name not in place]
        if missing:
            raise NotFound(f"{len(missing)} stimuli not in {table.name}, {missing[0]} for one", "all", "Copy it again.")
        rows = np.array([place[name] for name in ids])
        return read_rows_of_pictures(stack, ("stimuli", "images", "data"), rows, ids, side)


def _read_trials(session: _Session) -> tuple[Labels, NDArray[np.intp]]:
    columns = read_columns(session.trials)
    where = session.trials.name
    if "beta_index" not in columns or "run" not in columns:
        raise BadInput(f"{where} with {', '.join(columns)}", "session, run, beta_index and label", "Copy it again.")
    order = [int(cell) for cell in columns["beta_index"]]
    refuse_duplicates("beta_index", order, where)
    if order != list(range(len(order))):
        off = order == list(range(1, len(order) + 1))
        raise BadInput(
            f"{where} whose beta_index runs from {order[0]} to {order[-1]}" + (", off by one" if off else ""),
            f"0 to {len(order) - 1}, in order",
            "beta_index counts from 0 in the order of the volumes: take the published table.",
        )
    volumes = count_volumes(session.betas)
    if volumes != len(order):
        raise BadInput(
            f"{len(order)} trials in {where} for {volumes} volumes in {session.betas.name}",
            "one row a volume",
            "Take both files of one release.",
        )
    seen = columns if {"stimulus", "stim_file"} & set(columns) else columns | {"stimulus": columns.get("label", [])}
    runs = np.array([int(re.sub(r"\D", "", cell) or 0) for cell in columns["run"]])
    return read_stimulus_ids(seen, where), runs
