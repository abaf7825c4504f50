"""Count objects one by one in two folders of instance maps: found, and drawn."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.medseg.detection import Counts
from voxelight.medseg.evaluate import mean_by_person
from voxelight.medseg.instances import THRESHOLDS, InstanceScores, score_instances
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.storage.formats.images import read_numbers
from voxelight.storage.formats.names import image_stem
from voxelight.storage.formats.nifti import read_label_map

_SUFFIXES = (".png", ".nii", ".nii.gz")
_ENDING = "_instances"
_MOST = 2**16


def score_folders(found: Path, references: Path, seed: int = 0) -> dict[str, Any]:
    """Score instance maps against references of the same names, ``_instances`` left out.

    Parameters
    ----------
    found, references : folders of grey PNG pictures or NIfTI files whose values are numbers of objects
    seed : of the bootstrap over pictures

    Returns
    -------
    dict with ``cases`` (case -> its scores), ``pooled`` (IoU -> counts and rates over all objects), ``mean`` (score ->
    mean over pictures with its interval), what was left out, and why where it can't be scored

    Raises
    ------
    BadInput
        No name is in both.
    VoxelightError
        No map can be scored: why the first can't.
    """
    ours, theirs = _by_stem(found), _by_stem(references)
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise BadInput(f"no name that is in {found} and {references}", "instance maps of one name in both",
                       "Name each reference as its picture.")  # fmt: skip
    scores, faults = {}, {}
    for stem in shared:
        try:
            scores[stem] = score_instances(_read(ours[stem]), _read(theirs[stem]))
        except VoxelightError as error:
            faults[stem] = error
    if not scores:
        raise next(iter(faults.values()))
    pooled = {threshold: _add([each.counts[threshold] for each in scores.values()]) for threshold in THRESHOLDS}
    cases = {stem: _tell(each) for stem, each in scores.items()}
    names = ("foreground_dice", *(f"f1_{threshold:g}" for threshold in THRESHOLDS))
    means = {}
    for name in names:
        values = {stem: row[name] for stem, row in cases.items() if row[name] is not None}
        if values:
            means[name] = asdict(mean_by_person(values, {stem: stem for stem in values}, seed))
    return {
        "cases": cases,
        "pooled": {f"{threshold:g}": asdict(counts) | counts.rates() for threshold, counts in pooled.items()},
        "mean": means,
        "without_reference": len(ours) - len(shared),
        "without_map": len(theirs) - len(shared),
        "left_out": {stem: str(error) for stem, error in faults.items()},
        "seed": seed,
        "notice": "Not for clinical use.",
    }


def _tell(scores: InstanceScores) -> dict[str, Any]:
    told: dict[str, Any] = {"foreground_dice": scores.foreground_dice}
    for threshold, counts in scores.counts.items():
        there = counts.tp + counts.fn + counts.fp
        told[f"f1_{threshold:g}"] = counts.rates()["f1"] if there else None
    first = scores.counts[THRESHOLDS[0]]
    return told | {"drawn": first.tp + first.fn, "found": first.tp + first.fp}


def _add(counts: Sequence[Counts]) -> Counts:
    return Counts(*(sum(getattr(each, name) for each in counts) for name in ("tp", "fn", "fp", "tn")))


def _read(path: Path) -> NDArray[np.int64]:
    if path.suffix.lower() == ".png":
        return read_numbers(path)
    return read_label_map(path, {number: str(number) for number in range(1, _MOST)}).array.astype(np.int64)


def _by_stem(folder: Path) -> dict[str, Path]:
    paths = [path for path in sorted(folder.glob("*")) if path.name.lower().endswith(_SUFFIXES)]
    marked = [path for path in paths if image_stem(path.name).endswith(_ENDING)]
    return {image_stem(path.name).removesuffix(_ENDING): path for path in marked or paths}
