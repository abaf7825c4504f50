"""Guard-rails: what must hold before a score is shown, and a record of each that a report can't leave out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import ClipTokens
from voxelight.neuro.retrieve import find_cosine
from voxelight.neuro.splits import Labels, Leak

SAME_PICTURE_COSINE = 0.98
GUARDS = {
    "ids": "No stimulus is on both sides of the split.",
    "pictures": "No picture is on both sides under two ids (hash of its pixels).",
    "tokens": f"No picture is on both sides under two ids (cosine of its tokens above {SAME_PICTURE_COSINE}).",
    "normalisation": "The scaler is the same with and without the held-out rows.",
    "fit": "The decoder, its penalty, voxels, components and means are the same with and without the held-out rows.",
    "alone": "A held-out row is decoded alike alone and among others.",
    "gallery": "No picture stands twice in the gallery that is identified from.",
}

_NAMED_AT_MOST = 5
_MARKS = {"held": "held", "declared": "DECLARED", "not checked": "NOT CHECKED"}


@dataclass(frozen=True)
class Guard:
    """What became of one guard-rail. One that is broken is an error and never a record.

    Parameters
    ----------
    name : a key of `GUARDS`
    status : ``held``; ``declared``, broken by a method that says so in its name; or ``not checked``
    detail : what was looked at, or why it could not be; never empty
    """

    name: str
    status: Literal["held", "declared", "not checked"]
    detail: str

    def __post_init__(self) -> None:
        if self.name not in GUARDS or not self.detail.strip():
            raise BadInput(
                f"the guard-rail {self.name!r} with the detail {self.detail!r}",
                f"one of {', '.join(GUARDS)}, and a sentence on what was looked at",
                "Say what was checked, or why it was not.",
            )

    def line(self) -> str:
        """Return the record as a line of text."""
        return f"{_MARKS[self.status]}: {GUARDS[self.name]} {self.detail}"


@dataclass(frozen=True, eq=False)
class Side:
    """The stimuli of one side of a split.

    Parameters
    ----------
    ids : array (stimulus,)
    images : array (stimulus, row, column, channel), float in [0, 1] or uint8; None where unknown
    tokens : ClipTokens (stimulus, token, dim); None where unknown
    """

    ids: Labels
    images: NDArray[Any] | None = None
    tokens: ClipTokens | None = None


def require_guards(guards: Sequence[Guard]) -> tuple[Guard, ...]:
    """Return the records in the order of `GUARDS`.

    Raises
    ------
    BadInput
        One is missing or there twice.
    """
    names = [guard.name for guard in guards]
    wrong = sorted({*GUARDS} ^ {*names}) + sorted({name for name in names if names.count(name) > 1})
    if wrong:
        raise BadInput(
            f"a report with {', '.join(wrong)} missing or doubled among its guard-rails",
            f"one record each of {', '.join(GUARDS)}",
            "Check it, or record it as `not checked` with the reason, which the report then shows.",
        )
    by_name = {guard.name: guard for guard in guards}
    return tuple(by_name[name] for name in GUARDS)


def check_overlap(train: Side, test: Side, threshold: float = SAME_PICTURE_COSINE) -> tuple[Guard, ...]:
    """Refuse a stimulus on both sides, under one id or two.

    Parameters
    ----------
    train, test : the two sides
    threshold : cosine of tokens above which two pictures count as one

    Returns
    -------
    the records `ids`, `pictures` and `tokens`; the last two as not checked where a side lacks what they compare

    Raises
    ------
    Leak
        The sides overlap.
    BadInput
        A side has no stimulus, or the tokens are of two spaces.
    """
    if not len(train.ids) or not len(test.ids):
        raise BadInput(
            f"{len(train.ids)} training and {len(test.ids)} held-out stimuli", "one or more each", "Give both sides."
        )
    return (_check_ids(train, test), _check_pictures(train, test), _check_tokens(train, test, threshold))


def check_gallery(ids: Labels, images: NDArray[Any]) -> Guard:
    """Say whether a picture stands twice in a gallery: then neither of both can be identified for certain.

    Parameters
    ----------
    ids : array (stimulus,)
    images : array (stimulus, row, column, channel), float in [0, 1] or uint8
    """
    groups: dict[str, list[str]] = {}
    for name, digest in zip(ids.tolist(), hash_pictures(images), strict=True):
        groups.setdefault(digest, []).append(name)
    twins = [" = ".join(names) for names in groups.values() if len(names) > 1]
    if twins:
        return Guard("gallery", "declared", f"{_name(twins)}: ties between them count half.")
    return Guard("gallery", "held", f"{len(ids)} pictures, all different.")


def hash_pictures(images: NDArray[Any]) -> list[str]:
    """Return the SHA-256 of the 8-bit pixels of each picture; grey and RGB of the same grey count as one.

    Parameters
    ----------
    images : array (stimulus, row, column, channel), float in [0, 1] or uint8
    """
    levels = images if images.dtype == np.uint8 else np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    levels = np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:3], 3)) if levels.shape[3] == 1 else levels)
    shape = repr(levels.shape[1:]).encode()
    return [hashlib.sha256(shape + picture.tobytes()).hexdigest() for picture in levels]


def _check_ids(train: Side, test: Side) -> Guard:
    shared = sorted(set(train.ids.tolist()) & set(test.ids.tolist()))
    if shared:
        raise Leak(
            f"stimulus {_name(shared)} in training and among the held-out",
            "every stimulus on one side",
            "Split by stimulus, so that all trials of one stay together.",
        )
    return Guard("ids", "held", f"{len(set(train.ids.tolist()))} training and {len(set(test.ids.tolist()))} held out.")


def _check_pictures(train: Side, test: Side) -> Guard:
    if train.images is None or test.images is None:
        return Guard("pictures", "not checked", f"No pictures of the {_lacking(train.images)} stimuli are at hand.")
    known: Mapping[str, str] = dict(zip(hash_pictures(train.images), train.ids.tolist(), strict=True))
    digests = zip(test.ids.tolist(), hash_pictures(test.images), strict=True)
    _refuse_twins([f"{name} = {known[digest]}" for name, digest in digests if digest in known], "the same pixels")
    return Guard("pictures", "held", f"Pixels of {len(train.ids)} and {len(test.ids)} pictures compared.")


def _check_tokens(train: Side, test: Side, threshold: float) -> Guard:
    if train.tokens is None or test.tokens is None:
        return Guard("tokens", "not checked", f"No tokens of the {_lacking(train.tokens)} pictures are at hand.")
    cosine = find_cosine(test.tokens, train.tokens)
    nearest = cosine.argmax(1)
    twins = [
        f"{test.ids[row]} = {train.ids[nearest[row]]} ({cosine[row, nearest[row]]:.3f})"
        for row in np.flatnonzero(cosine.max(1) > threshold)
    ]
    _refuse_twins(twins, f"a token cosine above {threshold}")
    return Guard("tokens", "held", f"Largest cosine {cosine.max():.3f} in {test.tokens.space}.")


def _refuse_twins(twins: list[str], why: str) -> None:
    if twins:
        raise Leak(
            f"one picture under two ids, held out and in training, by {why}: {_name(twins)}",
            "every picture on one side",
            "Give both the same stimulus id, or leave one out.",
        )


def _lacking(train_part: object) -> str:
    return "training" if train_part is None else "held-out"


def _name(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return f"{', '.join(names[:_NAMED_AT_MOST])}{more}"
