"""Which pictures a training holds out, by any kind of split: shipped with the data, marked, drawn, or made of looks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.embed import describe_picture
from voxelight.neuro.split_kinds import make_parts
from voxelight.neuro.splits import Leak
from voxelight.neuro.training.recorded import FEWEST_HELD_OUT, HeldOutWay, SeenTrials, choose_held_out

SHIPPED = "split_"
Read = Callable[[Sequence[str]], NDArray[np.floating[Any]]]
"""Keys -> pictures (key, 3, row, column) in [0, 1]."""

_YES = {"1", "true", "yes"}


def hold_out(
    subjects: Sequence[SeenTrials], way: HeldOutWay, share: float, seed: int, known: frozenset[str], read: Read
) -> tuple[tuple[SeenTrials, ...], frozenset[str], str]:
    """Choose the pictures that no subject is trained on; see `choose_held_out` for the plain ways.

    Parameters
    ----------
    subjects : whose pictures
    way : as there; ``random_N``, ``cluster_k5_N``, ``tau`` or ``ood``: a split of this name that ships with the data,
        as the label ``split_NAME`` of the trials; else for ``ood`` the pictures that the label ``ood`` marks; else
        made here, random ones by the seed N, others by `make_parts`
    share, seed, known : as there
    read : pictures, for splits that are made of their looks

    Returns
    -------
    subjects, who know what belongs to no part of the split; keys that are held out; and in words how

    Raises
    ------
    BadInput, Leak
        As there.
    """
    if way in ("auto", "shared", "random"):
        return (tuple(subjects), *choose_held_out(subjects, way, share, seed, known))
    held_out, left_out, told = _choose(subjects, way, share, seed, known, read)
    every = {key for subject in subjects for key in subject.keys}
    if not len(held_out) >= FEWEST_HELD_OUT or len(every - held_out - left_out) < 2:
        raise BadInput(
            f"{len(held_out)} pictures held out by {way}, and {len(every - held_out - left_out)} to train on",
            f"{FEWEST_HELD_OUT} and 2 or more",
            "Choose another split, or add pictures.",
        )
    if shared := held_out & known:
        raise Leak(
            f"{len(shared)} of {len(held_out)} held-out pictures in the training of the decoder that this starts from",
            "none",
            "Start from a decoder that held the same pictures out.",
        )
    return tuple(replace(subject, left_out=left_out) for subject in subjects), held_out, f"{way}: {told}"


def _choose(
    subjects: Sequence[SeenTrials], way: HeldOutWay, share: float, seed: int, known: frozenset[str], read: Read
) -> tuple[frozenset[str], frozenset[str], str]:
    shipped = _gather(subjects, f"{SHIPPED}{way}")
    if shipped is not None:
        parts = {part: frozenset(key for key, each in shipped.items() if each == part) for part in ("train", "test")}
        rest = frozenset(shipped) - parts["train"] - parts["test"]
        return parts["test"], rest, f"the {len(parts['test'])} pictures of the split that ships with the data"
    if way.startswith("random"):
        held_out, told = choose_held_out(subjects, "random", share, int(way.rpartition("_")[2]), known)
        return held_out, frozenset(), told
    marked = _gather(subjects, "ood") if way == "ood" else None
    if marked is not None:
        held_out = frozenset(key for key, each in marked.items() if each.strip().lower() in _YES)
        return held_out, frozenset(), f"the {len(held_out)} pictures marked as out of distribution"
    keys = sorted({key for subject in subjects for key in subject.keys})
    vectors = np.stack([describe_picture(read([key])[0].transpose(1, 2, 0)) for key in keys])
    rows, near, told = make_parts(way, vectors, share, seed)
    return frozenset(keys[row] for row in rows), frozenset(keys[row] for row in near), told


def _gather(subjects: Sequence[SeenTrials], label: str) -> Mapping[str, str] | None:
    """Return what a label says of every picture; None where a subject lacks it."""
    columns = [subject.betas.labels.get(label) for subject in subjects]
    if any(column is None for column in columns):
        return None
    found: dict[str, str] = {}
    for subject, column in zip(subjects, columns, strict=True):
        for key, each in zip(subject.keys, [] if column is None else column.tolist(), strict=True):
            if found.setdefault(key, each) != each:
                raise Leak(f"one picture as {found[key]!r} and {each!r} of {label}", "one part for every picture",
                           "Give both ids the same part.")  # fmt: skip
    return found
