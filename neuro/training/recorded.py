"""From betas with the pictures that were seen to what a training takes: trials, statistics, and what is held out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.betas import find_normalisation
from voxelight.neuro.evaluate.guards import Guard, hash_pictures
from voxelight.neuro.splits import Leak
from voxelight.neuro.training.batches import Rows, TrainingSubject, Voxels
from voxelight.neuro.training.standardise import VoxelStatistics, find_statistics

if TYPE_CHECKING:
    from voxelight.neuro.simulation.pictures import PictureSet

AS_STORED, PER_SESSION = "as-stored", "training-rows-per-session"
HeldOutWay = Literal[
    "auto", "shared", "random", "random_0", "random_1", "random_2", "random_3", "random_4",
    "cluster_k5_0", "cluster_k5_1", "cluster_k5_2", "cluster_k5_3", "cluster_k5_4", "tau", "ood",
]  # fmt: skip

_BATCH = 256
_YES = {"1", "true", "yes"}
FEWEST_HELD_OUT = 3


@dataclass(frozen=True, eq=False)
class SeenTrials:
    """Single trials of a subject with the hash of what was seen in each.

    Parameters
    ----------
    betas : Betas (trial, voxel), which may be mapped from a file
    keys : of the picture of every trial; two ids of one picture have one key
    left_out : keys that are neither trained on nor tested
    """

    betas: Betas
    keys: tuple[str, ...]
    left_out: frozenset[str] = frozenset()

    @property
    def sessions(self) -> tuple[str, ...]:
        """Session of every trial; all of one where they are not told."""
        told = self.betas.labels.get("session")
        return ("1",) * len(self.keys) if told is None else tuple(told.tolist())


@dataclass(frozen=True, eq=False)
class PreparedSubject:
    """What a training and its check take of a subject.

    Parameters
    ----------
    training : standardised trials, of which the rows of the first sessions are trained on
    statistics : by which they are standardised; None where they are as stored
    test : key of each held-out picture -> its trials
    """

    training: TrainingSubject
    statistics: VoxelStatistics | None
    test: dict[str, Rows]


class Album:
    """Pictures by hash, out of sets that need not fit into memory.

    Parameters
    ----------
    side : pixels that pictures are brought to, bilinearly and without antialiasing
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._places: dict[str, tuple[PictureSet, int]] = {}

    def add(self, pictures: "PictureSet", ids: Iterable[str]) -> dict[str, str]:
        """Take up pictures, each read once for its hash.

        Returns
        -------
        id -> key

        Raises
        ------
        BadInput
            An id has no picture.
        """
        rows = {name: row for row, name in enumerate(pictures.ids.tolist())}
        wanted = list(dict.fromkeys(ids))
        missing = [name for name in wanted if name not in rows]
        if missing:
            raise BadInput(
                f"no picture of {len(missing)} stimuli ({missing[0]})",
                "a picture of every stimulus that was seen",
                "Hand in the pictures that go with these betas.",
            )
        found: dict[str, str] = {}
        for start in range(0, len(wanted), _BATCH):
            some = wanted[start : start + _BATCH]
            images = pictures.read(np.array([rows[name] for name in some], np.intp)).images
            found |= dict(zip(some, hash_pictures(images), strict=True))
        for name, key in found.items():
            self._places.setdefault(key, (pictures, rows[name]))
        return found

    def read(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """Return pictures (key, 3, side, side) in [0, 1]."""
        import torch

        from voxelight.neuro.stages import resize

        found = []
        for key in keys:
            pictures, row = self._places[key]
            image = torch.from_numpy(np.asarray(pictures.read(np.array([row], np.intp)).images, np.float32))
            found.append(resize(image.permute(0, 3, 1, 2).expand(-1, 3, -1, -1), self._side))
        read: NDArray[np.float32] = torch.cat(found).numpy()
        return read


def choose_held_out(
    subjects: Sequence[SeenTrials], way: HeldOutWay, share: float, seed: int, known: frozenset[str] = frozenset()
) -> tuple[frozenset[str], str]:
    """Choose the pictures that no subject is trained on.

    Parameters
    ----------
    subjects : whose pictures
    way : ``shared``: those that the label ``shared`` marks, as NSD's 1,000; ``random``: drawn by the seed; ``auto``:
        shared where the label is there, else random; `held_out.hold_out` knows the others
    share : of all pictures, where they are drawn
    seed : of the draw
    known : keys that the decoder it starts from was trained on; they are not drawn

    Returns
    -------
    keys, and in words how they were chosen

    Raises
    ------
    BadInput
        Nothing is marked, or too few pictures would be held out, or none would be left.
    Leak
        A picture that is to be held out was trained on already.
    """
    every = sorted({key for subject in subjects for key in subject.keys})
    marked = [subject.betas.labels.get("shared") for subject in subjects]
    if way == "shared" and any(labels is None for labels in marked):
        raise BadInput("betas that do not mark shared pictures", "a column `shared` of 0 and 1 in the events",
                       "Add it, or hold pictures out at random.")  # fmt: skip
    if way == "random" or any(labels is None for labels in marked):
        free = [key for key in every if key not in known]
        count = max(FEWEST_HELD_OUT, round(share * len(every)))
        if count > len(free) or count >= len(every):
            raise BadInput(
                f"{len(every)} pictures, {len(every) - len(free)} of which the decoder that this starts from has seen",
                f"{count} that can be held out, and some to train on",
                "Hold out a smaller share, or add pictures.",
            )
        drawn = np.random.default_rng(seed).choice(np.array(free), count, replace=False)
        return frozenset(drawn.tolist()), f"{count} of {len(every)} pictures, drawn by seed {seed}"
    held_out = {
        key
        for subject, labels in zip(subjects, marked, strict=True)
        for key, mark in zip(subject.keys, labels.tolist() if labels is not None else (), strict=True)
        if mark.strip().lower() in _YES
    }
    if not FEWEST_HELD_OUT <= len(held_out) < len(every):
        raise BadInput(
            f"{len(held_out)} of {len(every)} pictures marked as shared",
            f"{FEWEST_HELD_OUT} or more, and not all",
            "Mark others, or hold pictures out at random.",
        )
    if shared := held_out & known:
        raise Leak(
            f"{len(shared)} of {len(held_out)} held-out pictures in the training of the decoder that this starts from",
            "none",
            "Start from a decoder that held the same pictures out.",
        )
    return frozenset(held_out), f"the {len(held_out)} pictures marked as shared"


def check_statistics(
    seen: SeenTrials, prepared: PreparedSubject, held_out: frozenset[str], normalisation: str
) -> Guard:
    """Refit mean and deviation with noise in place of the held-out rows; they must not notice.

    Parameters
    ----------
    seen, held_out, normalisation : as `prepare_subject` was given
    prepared : what it returned

    Raises
    ------
    Leak
        They do.
    """
    if prepared.statistics is None:
        return Guard("normalisation", "not checked", "Betas are taken as stored.")
    rows = _list_training(seen, held_out)
    spoilt = _Spoilt(seen.betas.values, seen.keys, held_out)
    by_session = normalisation == PER_SESSION
    again = find_statistics(
        spoilt, rows if by_session else prepared.training.rows, seen.sessions if by_session else None
    )
    hashes = [each.sha256() for each in (prepared.statistics, again)]
    if len(set(hashes)) != 1:
        raise Leak(f"statistics {hashes[0][:12]} and, with noise in the held-out rows, {hashes[-1][:12]}",
                   "the same, whatever is held out", "Take them from training trials alone.")  # fmt: skip
    return Guard("normalisation", "held", f"{hashes[0][:12]} with the held-out rows, and with noise in their place.")


def _list_training(seen: SeenTrials, held_out: frozenset[str]) -> Rows:
    spared = held_out | seen.left_out
    return np.array([row for row, key in enumerate(seen.keys) if key not in spared], np.intp)


class _Spoilt:
    """Betas with noise in place of held-out rows."""

    def __init__(self, voxels: Voxels, keys: Sequence[str], held_out: frozenset[str]) -> None:
        self._voxels = voxels
        self._hidden = np.array([key in held_out for key in keys])

    @property
    def shape(self) -> tuple[int, ...]:
        return self._voxels.shape

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        values = np.array(self._voxels[rows], np.float32)
        hidden = self._hidden[rows]
        values[hidden] = np.random.default_rng(0).normal(5, 3, size=values[hidden].shape)
        return values


def prepare_subject(
    seen: SeenTrials, held_out: frozenset[str], normalisation: str, sessions: int | None = None
) -> PreparedSubject:
    """Standardise a subject's trials by those that are not held out, and share them out.

    Parameters
    ----------
    seen : of one subject
    held_out : keys that are kept for the test
    normalisation : ``training-rows``, over the sessions that are trained on; ``training-rows-per-session``; or
        ``as-stored``
    sessions : that are trained on, the first ones; None: all

    Raises
    ------
    BadInput
        The normalisation is transductive or unknown, or a session has too few training trials.
    """
    rows = _list_training(seen, held_out)
    betas, names = seen.betas, seen.sessions
    whole = TrainingSubject(betas.subject, betas.values, seen.keys, names, rows)
    first = whole if sessions is None else whole.first_sessions(sessions)
    statistics = None
    if normalisation != AS_STORED:
        found = find_normalisation(normalisation)
        if found.transductive:
            raise BadInput(
                f"the normalisation {normalisation}, to which held-out trials contribute",
                f"training-rows, training-rows-per-session or {AS_STORED}",
                "Choose one of them.",
            )
        by_session = normalisation == PER_SESSION
        statistics = (
            find_statistics(betas.values, rows, names) if by_session else find_statistics(betas.values, first.rows)
        )
    voxels = betas.values if statistics is None else statistics.standardise(betas.values, names)
    test: dict[str, list[int]] = {}
    for row, key in enumerate(seen.keys):
        if key in held_out:
            test.setdefault(key, []).append(row)
    training = TrainingSubject(betas.subject, voxels, seen.keys, names, first.rows)
    return PreparedSubject(training, statistics, {key: np.array(trials, np.intp) for key, trials in test.items()})
