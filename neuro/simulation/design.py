"""Which picture is shown when: shared and own pictures, three repeats spread over sessions, sessions of runs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from voxelight.models.errors import BadInput
from voxelight.neuro.simulation.streams import find_stream

Rows = NDArray[np.intp]

_NEAR = 0.5  # share of repeats that come soon after the first


class DesignOptions(BaseModel):
    """The experiment as it is planned; the defaults are NSD's, 40 sessions.

    Parameters
    ----------
    pictures : pictures of one subject
    shared : of these, the ones that every subject sees
    repeats : how often each is shown
    trials : trials of a session
    runs : runs of a session, of equal length up to one trial
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: PositiveInt = 10_000
    shared: int = Field(default=1000, ge=0)
    repeats: PositiveInt = 3
    trials: PositiveInt = 750
    runs: PositiveInt = 12

    @property
    def sessions(self) -> int:
        """Sessions that the whole experiment takes; the last may be short."""
        return -(-self.pictures * self.repeats // self.trials)


@dataclass(frozen=True, eq=False)
class Trials:
    """All trials of one subject as planned, in their order.

    Parameters
    ----------
    pictures : array (trial,), row of the picture in the picture set
    sessions, runs, repeats : array (trial,), each from 1; runs begin again in each session
    shared : array (trial,), whether every subject sees the picture
    """

    pictures: Rows
    sessions: Rows
    runs: Rows
    repeats: Rows
    shared: NDArray[np.bool_]

    def first_shown(self) -> Rows:
        """Return the distinct pictures in the order in which they are first shown."""
        shown, first = np.unique(self.pictures, return_index=True)
        return shown[np.argsort(first)]

    def places(self, trials: "Trials") -> Rows:
        """Return where the pictures of some of these trials stand in `first_shown`."""
        order = self.first_shown()
        ranks = np.argsort(order)
        return ranks[np.searchsorted(order, trials.pictures, sorter=ranks)]

    def select(self, rows: Rows) -> "Trials":
        """Return some trials."""
        return Trials(self.pictures[rows], self.sessions[rows], self.runs[rows], self.repeats[rows], self.shared[rows])


def plan_trials(available: int, subject: int, seed: int, options: DesignOptions | None = None) -> Trials:
    """Plan every trial of a subject.

    The pictures of the set are shuffled once. The first ones are shared; each subject takes the next ones of its own,
    and where the set is too small for all, it begins again after the shared ones. A picture is first shown at any time;
    of its repeats, half come within about a session of the first, the others at any time (assumed; NSD mixes near and
    far as well). So the plan of a subject depends on no other subject, nor on how many sessions of it are simulated.

    Parameters
    ----------
    available : pictures in the set
    subject : number, from 1
    seed : of the simulation
    options : DesignOptions

    Raises
    ------
    BadInput
        The set has too few pictures, or more are shared than shown.
    """
    options = options or DesignOptions()
    if options.pictures > available or options.shared > options.pictures:
        raise BadInput(
            f"{available} pictures for a subject who sees {options.pictures}, {options.shared} of them shared",
            "no more shown than there are, and no more shared than shown",
            "Give more pictures, or plan fewer.",
        )
    shuffled = find_stream(seed, "pictures").permutation(available)
    own, others = options.pictures - options.shared, shuffled[options.shared :]
    mine = others[(np.arange(own) + (subject - 1) * own) % max(len(others), 1)] if own else others[:0]
    pictures = np.concatenate([shuffled[: options.shared], mine])
    order = _order_of_showing(options, find_stream(seed, "subject", subject, "order"))
    shown = order // options.repeats
    session, place = np.divmod(np.arange(len(order)), options.trials)
    return Trials(
        pictures[shown],
        session + 1,
        _runs(options)[place],
        _count_repeats(shown),
        shown < options.shared,
    )


def _order_of_showing(options: DesignOptions, random: np.random.Generator) -> Rows:
    """Return the order of all showings, numbered picture x repeats + repeat; times lie on a circle of length 1."""
    size = (options.pictures, options.repeats - 1)
    first = random.uniform(size=(options.pictures, 1))
    near = first + random.normal(scale=1 / options.sessions, size=size)
    later = np.where(random.uniform(size=size) < _NEAR, near, random.uniform(size=size))
    return np.argsort(np.concatenate([first, later], axis=1).ravel() % 1, kind="stable")


def _runs(options: DesignOptions) -> Rows:
    """Return the run of each place in a session."""
    parts = np.array_split(np.arange(options.trials), options.runs)
    return np.repeat(np.arange(len(parts)) + 1, [len(part) for part in parts])


def _count_repeats(shown: Rows) -> Rows:
    """Return how often each showing's picture has been shown with it, from 1."""
    order = np.argsort(shown, kind="stable")
    ordered = shown[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(shown)])
    repeats = np.empty_like(shown)
    repeats[order] = np.arange(len(shown)) - np.repeat(starts, counts) + 1
    return repeats
