"""Which trials a step sees, how they are mixed, and how they come into memory: a batch at a time."""

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.splits import Leak

Rows = NDArray[np.intp]


class Voxels(Protocol):
    """Betas (trial, voxel), which may lie in a file that is mapped into memory; rows are asked for in order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(trial, voxel)."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Return some rows, as an array."""


@dataclass(frozen=True, eq=False)
class TrainingSubject:
    """Single trials of a subject.

    Parameters
    ----------
    name : of the subject
    voxels : normalised betas (trial, voxel), mapped from a file
    pictures : key of the picture of every trial
    sessions : session of every trial, in time order
    rows : trials that are trained on, by number

    Raises
    ------
    BadInput
        Lengths differ, or a row is not there.
    """

    name: str
    voxels: Voxels
    pictures: tuple[str, ...]
    sessions: tuple[str, ...]
    rows: Rows

    def __post_init__(self) -> None:
        trials = len(self.pictures)
        if len(self.voxels.shape) != 2 or self.voxels.shape[0] != trials or len(self.sessions) != trials:
            raise BadInput(
                f"betas of shape {tuple(self.voxels.shape)}, {trials} pictures, {len(self.sessions)} sessions",
                "(trial, voxel), and one picture and one session a trial",
                f"Hand in the whole table of {self.name}.",
            )
        rows = self.rows
        if not len(rows) or rows.min() < 0 or rows.max() >= trials or len(np.unique(rows)) < len(rows):
            raise BadInput(
                f"{len(rows)} training rows of {self.name}, of which some may be no trials or come twice",
                f"at least one, numbered from 0 to {trials - 1}, each once",
                "Correct the rows.",
            )

    def first_sessions(self, sessions: int) -> Self:
        """Return the subject with the rows of its first sessions alone; all where it has no more."""
        names = list(dict.fromkeys(self.sessions))[:sessions]
        kept = np.isin(np.asarray(self.sessions)[self.rows], names)
        return replace(self, rows=self.rows[kept])

    def session_count(self) -> int:
        """Return how many sessions the training rows come from."""
        return len({self.sessions[row] for row in self.rows.tolist()})

    def refuse_held_out(self, held_out: frozenset[str]) -> None:
        """Refuse to train on a picture that is kept for the test.

        Raises
        ------
        Leak
            A training row shows one.
        """
        shared = sorted({self.pictures[row] for row in self.rows.tolist()} & held_out)
        if shared:
            raise Leak(
                f"{len(shared)} held-out pictures among the training trials of {self.name} ({shared[0][:12]}...)",
                "none",
                "Leave every trial of a held-out picture out of the training rows.",
            )

    def sha256(self) -> str:
        """Return the hash of what decides the order of trials; the betas themselves are too large to be read for it."""
        told = hashlib.sha256(f"{self.name} {tuple(self.voxels.shape)}\n".encode())
        told.update(self.rows.astype("<i8").tobytes())
        told.update("\n".join((*self.pictures, *self.sessions)).encode())
        return told.hexdigest()

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """Return betas of trials (row, voxel), float32, reading each row once and in the order of the file.

        Raises
        ------
        BadInput
            One is infinite or no number.
        """
        unique, inverse = np.unique(rows, return_inverse=True)
        values = np.asarray(self.voxels[unique], dtype=np.float32)
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise BadInput(
                f"betas of {self.name} that are infinite or no number in trial {unique[~finite][0]}",
                "finite ones",
                "Leave out voxels outside the brain, and trials that were not measured.",
            )
        chosen: NDArray[np.float32] = values[inverse.ravel()]
        return chosen


def plan_epoch(
    subjects: Sequence[TrainingSubject], steps: int, batch: int, rng: np.random.Generator, skip: bool = False
) -> Rows:
    """Deal the trials of an epoch.

    Each subject's trials come in random order, all of them before one comes again. No batch shows a picture twice as
    long as there is another, and never one subject's.

    Parameters
    ----------
    subjects : each gives as many trials a step, however many it has
    steps : of the epoch
    batch : trials of a subject in a step
    rng : drawn from
    skip : throw a batch away where it shows a subject the same picture twice, as published, in place of putting the
        second trial off

    Returns
    -------
    array (subject, step, sample), row numbers of each subject

    Raises
    ------
    BadInput
        A subject has fewer pictures than a batch.
    """
    taken: list[set[str]] = [set() for _ in range(steps)]
    plan = np.empty((len(subjects), steps, batch), np.intp)
    for number, subject in enumerate(subjects):
        seen = {subject.pictures[row] for row in subject.rows.tolist()}
        if len(seen) < batch:
            raise BadInput(
                f"{len(seen)} pictures in the training trials of {subject.name}", f"at least {batch}, a batch",
                "Take smaller batches or more sessions.",
            )  # fmt: skip
        pool = _Pool(subject, rng)
        for step in range(steps):
            plan[number, step] = pool.take_whole(batch) if skip else pool.take(batch, taken[step])
    return plan


class _Pool:
    """A subject's trials in random order, pass after pass."""

    def __init__(self, subject: TrainingSubject, rng: np.random.Generator) -> None:
        self._subject, self._rng = subject, rng
        self._waiting: deque[int] = deque()

    def _refill(self) -> None:
        self._waiting.extend(self._rng.permutation(self._subject.rows).tolist())

    def take_whole(self, batch: int) -> list[int]:
        """Cut off batches until one has no picture twice."""
        while True:
            while len(self._waiting) < batch:
                self._refill()
            rows = [self._waiting.popleft() for _ in range(batch)]
            if len({self._subject.pictures[row] for row in rows}) == batch:
                return rows

    def take(self, batch: int, taken: set[str]) -> list[int]:
        """Take trials whose pictures are not taken yet; what is passed over stays first in the line."""
        rows: list[int] = []
        own: set[str] = set()
        while len(rows) < batch:
            place = self._find(taken)
            if place is None and len(self._waiting) < len(self._subject.rows):
                self._refill()
                continue
            if place is None:  # every picture that is left is another subject's already
                place = self._find(own)
            if place is None:
                self._refill()
                continue
            row = self._waiting[place]
            del self._waiting[place]
            rows.append(row)
            own.add(self._subject.pictures[row])
            taken.add(self._subject.pictures[row])
        return rows

    def _find(self, taken: set[str]) -> int | None:
        pictures = self._subject.pictures
        return next((place for place, row in enumerate(self._waiting) if pictures[row] not in taken), None)
