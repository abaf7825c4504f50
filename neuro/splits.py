"""Splits that declare what they hold out, and refuse to hold out less."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas

UNITS = ("stimulus", "category", "run", "session", "subject", "group")
Labels = NDArray[np.str_]
Rows = NDArray[np.intp]

_NAMED_AT_MOST = 5


class Leak(BadInput):
    """What is held out takes part in the training."""


@dataclass(frozen=True, eq=False)
class Fold:
    """One part of a split, enough for a worker to do it alone.

    Parameters
    ----------
    key : the held-out unit, or the number of the fold where it holds out several
    unit : what is held out whole
    train, test : array (row,), row numbers of the betas
    stimulus_ids : array (stimulus,), the distinct held-out stimuli in order of their first row
    """

    key: str
    unit: str
    train: Rows
    test: Rows
    stimulus_ids: Labels


@dataclass(frozen=True, eq=False)
class Split:
    """Folds over trials that keep every unit whole.

    Parameters
    ----------
    unit : one of `UNITS`
    unit_ids : array (trial,), the unit of every trial
    stimulus_ids : array (trial,)
    folds : the folds, each with a key of its own

    Raises
    ------
    BadInput
        The unit is unknown, a fold is empty, names a row that is not there, or shares its key.
    Leak
        A unit occurs in the training rows and in the held-out rows of one fold.
    """

    unit: str
    unit_ids: Labels
    stimulus_ids: Labels
    folds: tuple[Fold, ...]

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise BadInput(f"the unit {self.unit!r}", f"one of {', '.join(UNITS)}", "Name what is held out whole.")
        keys = [fold.key for fold in self.folds]
        if not keys or len(set(keys)) < len(keys):
            raise BadInput(f"the fold keys {keys}", "at least one fold, no key twice", "Name every fold once.")
        for fold in self.folds:
            self._check(fold)

    def _check(self, fold: Fold) -> None:
        rows = np.concatenate([fold.train, fold.test])
        if not len(fold.train) or not len(fold.test) or rows.min() < 0 or rows.max() >= len(self.unit_ids):
            raise BadInput(
                f"fold {fold.key} with {len(fold.train)} training and {len(fold.test)} held-out rows",
                f"one of each or more, numbered from 0 to {len(self.unit_ids) - 1}",
                f"Give at least two of the unit {self.unit}.",
            )
        shared = sorted(set(self.unit_ids[fold.train].tolist()) & set(self.unit_ids[fold.test].tolist()))
        if shared:
            more = f" and {len(shared) - _NAMED_AT_MOST} more" if len(shared) > _NAMED_AT_MOST else ""
            raise Leak(
                f"{self.unit} {', '.join(shared[:_NAMED_AT_MOST])}{more} on both sides of fold {fold.key}",
                f"every {self.unit} on one side",
                f"Split by {self.unit}, so that all its trials stay together.",
            )

    @property
    def n_stimuli_seen_before(self) -> int:
        """How many held-out stimuli also occur in the training rows of their fold."""
        return sum(int(np.isin(fold.stimulus_ids, self.stimulus_ids[fold.train]).sum()) for fold in self.folds)


def find_unit_ids(betas: Betas, unit: str) -> Labels:
    """Return the unit of every trial.

    Parameters
    ----------
    betas : Betas
    unit : one of `UNITS`

    Returns
    -------
    array (trial,), str

    Raises
    ------
    BadInput
        The betas do not say it.
    """
    if unit == "stimulus":
        return betas.stimulus_ids
    if unit == "subject":
        return betas.labels.get("subject", np.full(len(betas.values), betas.subject))
    if unit not in betas.labels:
        known = ", ".join(["stimulus", "subject", *sorted(betas.labels)])
        raise BadInput(f"betas without the unit {unit!r}", f"one of {known}", f"Add the column `{unit}` to the events.")
    return betas.labels[unit]


def leave_one_out(unit: str, unit_ids: Labels, stimulus_ids: Labels) -> Split:
    """Hold out each unit once, whole.

    Parameters
    ----------
    unit : one of `UNITS`
    unit_ids : array (trial,), the unit of every trial
    stimulus_ids : array (trial,)

    Raises
    ------
    BadInput
        There are fewer than two of the unit.
    """
    held_out = {name: [name] for name in _in_order(unit_ids)}
    return _make_split(unit, unit_ids, stimulus_ids, held_out)


def k_fold(unit: str, unit_ids: Labels, stimulus_ids: Labels, n_folds: int, seed: int) -> Split:
    """Deal the units at random onto folds, sizes differing by one unit at most, and hold out each fold once.

    Parameters
    ----------
    unit : one of `UNITS`
    unit_ids : array (trial,), the unit of every trial
    stimulus_ids : array (trial,)
    n_folds : number of folds
    seed : of the dealing

    Raises
    ------
    BadInput
        There are fewer units than folds, or fewer than two folds.
    """
    names = _in_order(unit_ids)
    if not 2 <= n_folds <= len(names):
        raise BadInput(
            f"{n_folds} folds for {len(names)} of the unit {unit}", f"2 to {len(names)} folds", "Change the number."
        )
    shuffled = np.random.default_rng(seed).permutation(np.asarray(names)).tolist()
    width = len(str(n_folds))
    held_out = {f"fold-{number + 1:0{width}}": shuffled[number::n_folds] for number in range(n_folds)}
    return _make_split(unit, unit_ids, stimulus_ids, held_out)


def check_no_leak(fit: Callable[[Betas], str], betas: Betas, fold: Fold, seed: int = 0) -> None:
    """Refit with noise in place of the held-out rows; the fitted weights must not notice.

    Parameters
    ----------
    fit : Betas -> sha256 of the weights fitted on the training rows of the fold
    betas : Betas
    fold : Fold
    seed : of the noise

    Raises
    ------
    Leak
        The weights depend on the held-out rows.
    """
    values = betas.values.copy()
    noise: NDArray[Any] = np.random.default_rng(seed).normal(5, 3, size=values[fold.test].shape)
    values[fold.test] = noise
    before, after = fit(betas), fit(replace(betas, values=values))
    if before != after:
        raise Leak(
            f"weights {before[:12]} and, with noise in the held-out rows of fold {fold.key}, {after[:12]}",
            "the same weights, whatever is held out",
            "Fit every scaler, selection and penalty on the training rows alone.",
        )


def _in_order(ids: Labels) -> list[str]:
    return list(dict.fromkeys(ids.tolist()))


def _make_split(unit: str, unit_ids: Labels, stimulus_ids: Labels, held_out: dict[str, list[str]]) -> Split:
    folds = []
    for key, names in held_out.items():
        inside = np.isin(unit_ids, names)
        test = np.flatnonzero(inside)
        shown = np.asarray(_in_order(stimulus_ids[test]))
        folds.append(Fold(key, unit, np.flatnonzero(~inside), test, shown))
    return Split(unit, unit_ids, stimulus_ids, tuple(folds))
