"""What every layout of fMRI betas gives: an index first, then betas, a part of them at a time, and pictures."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Betas, Stimuli
from voxelight.storage.formats.fmri.options import ReadingOptions
from voxelight.storage.formats.fmri.space import Space

Rows = NDArray[np.intp]
Labels = NDArray[np.str_]
Block = tuple[Rows, NDArray[np.floating[Any]]]


@dataclass(frozen=True, eq=False)
class SubjectIndex:
    """What is known of one subject before any beta is read.

    Parameters
    ----------
    subject : label
    stimulus_ids : array (trial,), in the order in which betas are read
    labels : unit -> array (trial,), e.g. ``session``, ``run``, ``repeat``, ``shared``, ``split``
    rois : regions that can be asked for; the first is taken where none is named
    """

    subject: str
    stimulus_ids: Labels
    labels: dict[str, Labels]
    rois: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = {name: len(column) for name, column in self.labels.items() if len(column) != len(self.stimulus_ids)}
        if wrong or not len(self.stimulus_ids):
            raise BadInput(
                f"{len(self.stimulus_ids)} trials of subject {self.subject} with labels of {wrong or 'no'} length",
                "one entry a trial",
                "Check the tables.",
            )

    def find_rows(self, **wanted: str) -> Rows:
        """Return the trials whose labels are these, e.g. ``find_rows(session="ses-01")``."""
        fits = np.ones(len(self.stimulus_ids), dtype=bool)
        for name, value in wanted.items():
            if name not in self.labels:
                raise NotFound(f"no label {name!r}", f"one of {', '.join(self.labels)}", "Correct the name.")
            fits &= self.labels[name] == value
        return np.flatnonzero(fits)


@dataclass(frozen=True, eq=False)
class Index:
    """What a folder or file holds, from tables and headers alone.

    Parameters
    ----------
    layout : name of the layout
    subjects : in order
    simulated : whether the files say that a model made them
    notes : what a person should know, one sentence each
    """

    layout: str
    subjects: tuple[SubjectIndex, ...]
    simulated: bool = False
    notes: tuple[str, ...] = field(default_factory=tuple)

    def find(self, subject: str | None = None) -> SubjectIndex:
        """Return one subject; the first where none is named.

        Raises
        ------
        NotFound
            There is none of that label.
        """
        known = {each.subject: each for each in self.subjects}
        chosen = self.subjects[0].subject if subject is None else subject
        if chosen not in known:
            raise NotFound(f"no subject {chosen!r}", f"one of {', '.join(known)}", "Correct the label.")
        return known[chosen]

    def summarise(self) -> list[dict[str, Any]]:
        """Return a row a subject: subject, sessions, runs, trials, stimuli, repeated, labels, rois."""
        return [_summarise(each) for each in self.subjects]


class Recording(ABC):
    """Betas of one layout on the disk.

    Parameters
    ----------
    folder : the folder, or the file where the layout is one file
    options : ReadingOptions
    """

    layout: ClassVar[str]
    index: Index

    def __init__(self, folder: Path, options: ReadingOptions) -> None:
        self.folder, self.options = folder, options
        self.index = self._list()

    @abstractmethod
    def _list(self) -> Index:
        """Read tables and headers."""

    @abstractmethod
    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return the voxels of a region, the first of the subject where none is named.

        Raises
        ------
        NotFound
            There is no such subject or region.
        """

    @abstractmethod
    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        """Yield (places in `rows`, values (row, voxel)) until every row was given once."""

    @abstractmethod
    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read pictures, and no others than these.

        Parameters
        ----------
        ids : of stimuli
        side : where given, squares of so many pixels are made, each as it is read

        Raises
        ------
        NotFound
            A picture is not among the files.
        """

    def read_map(self, name: str, subject: str | None = None, roi: str | None = None) -> NDArray[np.float32]:
        """Read a map that comes with the betas, e.g. ``ncsnr``: array (voxel,).

        Raises
        ------
        NotFound
            The layout has no such map.
        """
        raise NotFound(f"no map {name!r} in the layout {self.layout}", "one that comes with the betas", "Leave it out.")

    def stream(self, subject: str | None = None, roi: str | None = None, rows: Rows | None = None) -> Iterator[Block]:
        """Yield betas a part at a time, as the files hold them, so that memory need not hold all.

        Parameters
        ----------
        subject, roi : as in the index; the first where not named
        rows : array (trial,), trials of the index to take; all where not given

        Yields
        ------
        places : array (some,), places in `rows`
        values : array (some, voxel), float32

        Raises
        ------
        BadInput
            A file is cut short, lies on another grid, or holds NaN and `missing` is ``refuse``.
        """
        one = self.index.find(subject)
        chosen = np.arange(len(one.stimulus_ids)) if rows is None else np.asarray(rows, dtype=np.intp)
        for places, values in self._blocks(one.subject, chosen, self.find_space(one.subject, roi)):
            yield places, self._settle(np.asarray(values, dtype=np.float32), one.subject)

    def read(self, subject: str | None = None, roi: str | None = None, rows: Rows | None = None) -> Betas:
        """Read betas into memory: as `stream`, put together.

        Returns
        -------
        Betas (trial, voxel), in the order of the index, or of `rows`
        """
        one = self.index.find(subject)
        space = self.find_space(one.subject, roi)
        chosen = np.arange(len(one.stimulus_ids)) if rows is None else np.asarray(rows, dtype=np.intp)
        values = np.empty((len(chosen), len(space)), dtype=np.float32)
        seen = np.zeros(len(chosen), dtype=bool)
        for places, part in self.stream(one.subject, roi, chosen):
            values[places] = part
            seen[places] = True
        if not seen.all():
            raise BadInput(
                f"{int((~seen).sum())} of {len(chosen)} trials without betas", "betas for every trial", "Copy it again."
            )
        labels = {name: column[chosen] for name, column in one.labels.items()}
        return Betas(values, one.stimulus_ids[chosen], one.subject, space.roi, labels, self.index.simulated)

    def _settle(self, values: NDArray[np.float32], subject: str) -> NDArray[np.float32]:
        wrong = ~np.isfinite(values)
        if not wrong.any():
            return values
        if self.options.missing == "refuse":
            raise BadInput(
                f"{int(wrong.sum())} betas of subject {subject} that are NaN or infinite, in "
                f"{int(wrong.any(0).sum())} of {values.shape[1]} voxels",
                "finite values",
                "Choose a region without them, or set missing to zero, which puts 0 in their place.",
            )
        return np.where(wrong, np.float32(0), values)


def _summarise(one: SubjectIndex) -> dict[str, Any]:
    _, counts = np.unique(one.stimulus_ids, return_counts=True)
    return {
        "subject": one.subject,
        "sessions": len(set(one.labels["session"].tolist())) if "session" in one.labels else 0,
        "runs": _count_runs(one),
        "trials": len(one.stimulus_ids),
        "stimuli": len(counts),
        "repeated": int((counts > 1).sum()),
        "labels": sorted(one.labels),
        "rois": list(one.rois),
    }


def _count_runs(one: SubjectIndex) -> int:
    columns = [one.labels[name] for name in ("session", "run") if name in one.labels]
    return len(set(zip(*(column.tolist() for column in columns), strict=True))) if "run" in one.labels else 0
