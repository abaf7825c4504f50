"""What goes wrong between scanner and decoder, looked for before betas are believed."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.splits import Leak

Labels = NDArray[np.str_]

_NAMED = 5
_LARGEST_PERCENT = 100.0  # percent signal change; a single-trial beta beyond it is rare, a median beyond it is not one


def refuse_duplicates(what: str, keys: Sequence[Any], where: str) -> None:
    """Refuse a table in which one trial stands twice.

    Parameters
    ----------
    what : what a key is, e.g. "session, run and trial"
    keys : one a row, hashable
    where : name of the table

    Raises
    ------
    BadInput
        A key stands in more than one row.
    """
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise BadInput(
            f"{len(twice)} duplicate trial rows in {where}, {what} {_name(twice)}",
            "every trial once",
            "Remove the rows that are there twice; which of them holds is not guessed.",
        )


def choose_sessions(there: Sequence[int], asked: Sequence[int] | None, where: str) -> tuple[int, ...]:
    """Return the numbers of the sessions to read, and refuse a gap that nobody asked for.

    Parameters
    ----------
    there : numbers of the sessions that have files
    asked : those to take; None: all that are there
    where : name of the folder

    Raises
    ------
    BadInput
        One that was asked for is missing; or nothing was asked and one between the first and the last is missing.
    """
    present = sorted(set(there))
    if not present:
        raise BadInput(f"no session in {where}", "one file a session", "Check the folder.")
    wanted = sorted(set(asked)) if asked is not None else list(range(1, present[-1] + 1))
    missing = [number for number in wanted if number not in present]
    if missing:
        raise BadInput(
            f"{len(present)} sessions in {where}, without {_name(missing)}",
            "the sessions that were asked for" if asked is not None else f"all sessions from 1 to {present[-1]}",
            "Copy the missing files, or name the sessions to take.",
        )
    return tuple(wanted)


def divide_integers(values: NDArray[Any], scale: float | None, where: str) -> NDArray[np.float32]:
    """Return betas as float32; integers are divided by the scale of their layout.

    Parameters
    ----------
    values : array (trial, voxel), as stored
    scale : 300 for NSD; None: the layout does not say one
    where : name of the file

    Raises
    ------
    BadInput
        Integers without a scale; or floats so large that they are integers which nobody divided.
    """
    if values.dtype.kind in "iu":
        if scale is None:
            raise BadInput(
                f"betas as {values.dtype} in {where}, from {values.min()} to {values.max()}",
                "floats, or integers with a known scale",
                "They look unscaled: say the scale (300 for NSD's int16), or store what was divided.",
            )
        return values.astype(np.float32) / np.float32(scale)
    return refuse_unscaled(values.astype(np.float32, copy=False), where)


def refuse_unscaled(values: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    """Refuse floats that are all whole numbers and mostly far above any percent signal change.

    Raises
    ------
    BadInput
        They look like the int16 of NSD, cast and not divided.
    """
    some = values[np.isfinite(values) & (values != 0)][:100_000]
    if len(some) and float(np.median(np.abs(some))) > _LARGEST_PERCENT and bool((some == np.rint(some)).all()):
        raise BadInput(
            f"betas in {where} that are all whole numbers, of median size {float(np.median(np.abs(some))):.0f}",
            "percent signal change, some units at most",
            "They look like int16 that nobody scaled: divide by 300 (NSD), or say the scale.",
        )
    return values


def refuse_shared_stimuli(split: Labels, stimulus_ids: Labels, where: str) -> None:
    """Refuse a split that ships with data and has one stimulus on both sides.

    Parameters
    ----------
    split : array (trial,), e.g. ``train``, ``val``, ``test``; ``val`` counts as training
    stimulus_ids : array (trial,)
    where : name of what ships the split

    Raises
    ------
    Leak
        A stimulus of ``test`` stands in another part too.
    """
    test = set(stimulus_ids[split == "test"].tolist())
    shared = sorted(test & set(stimulus_ids[split != "test"].tolist()))
    if shared:
        raise Leak(
            f"{len(shared)} stimuli of the test part of {where} that are in training too, {_name(shared)}",
            "every stimulus on one side",
            "Leave their trials out of one part; a score on them is no score on unseen pictures.",
        )


def check_numbering(ids: NDArray[np.intp], count: int, where: str) -> None:
    """Refuse stimulus numbers that do not count from 0, told by their range.

    Parameters
    ----------
    ids : array (trial,), numbers of pictures, which should count from 0
    count : number of pictures
    where : name of the table

    Raises
    ------
    BadInput
        A number lies outside, and tells which way the counting is off.
    """
    if len(ids) and int(ids.max()) >= count:
        high = int(ids.max())
        off = high == count and int(ids.min()) >= 1
        raise BadInput(
            f"stimulus number {high} in {where} for {count} pictures" + (", off by one" if off else ""),
            f"numbers from 0 to {count - 1}",
            "They seem to count from 1: subtract 1, or name the file that counts from 1."
            if off
            else "Check the table.",
        )
    if len(ids) and int(ids.min()) < 0:
        raise BadInput(
            f"stimulus number {int(ids.min())} in {where}",
            f"numbers from 0 to {count - 1}",
            "1 seems to have been subtracted from numbers that count from 0 already.",
        )


def find_shift(ids: NDArray[np.intp], told: NDArray[np.bool_], truth: NDArray[np.bool_]) -> int | None:
    """Return by how much numbers are off, told from a property of the pictures that two tables name.

    Parameters
    ----------
    ids : array (trial,), numbers of pictures
    told : array (trial,), the property as the trial table says it
    truth : array (picture,), the property of every picture, by number from 0

    Returns
    -------
    0 where they agree as they are, -1 or 1 where they agree after adding it, None where nothing fits
    """
    for shift in (0, -1, 1):
        moved = ids + shift
        if moved.min() >= 0 and moved.max() < len(truth) and bool((truth[moved] == told).all()):
            return shift
    return None


def refuse_shift(shift: int | None, where: str, by: str) -> None:
    """Refuse numbers that are off.

    Raises
    ------
    BadInput
        `shift` is not 0.
    """
    if shift == 0:
        return
    if shift is None:
        raise BadInput(f"stimulus numbers in {where} that don't fit {by}", "one set of pictures", "Check both files.")
    raise BadInput(
        f"stimulus numbers in {where} that fit {by} only after adding {shift:+d}: off by one",
        "numbers that count from 0",
        "One file counts pictures from 1 and the other from 0: give both as they were published.",
    )


def _name(values: Sequence[Any]) -> str:
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return ", ".join(map(str, values[:_NAMED])) + more
