"""Runs of BOLD in BIDS, raw or as fMRIPrep derivatives: an index of what belongs together, before an image is read."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelight.models.errors import BadInput, NotFound

_ENTITY = re.compile(r"(?:^|_)([a-zA-Z]+)-([a-zA-Z0-9]+)(?=_|\.|$)")
_BOLD = re.compile(r"_bold\.nii(\.gz)?$")
_DERIVED = {"space", "res", "den", "desc", "label", "cohort", "hemi"}  # what a derivative adds to the name of its run
_TABLES = ("_events.tsv", "_desc-confounds_timeseries.tsv", "_desc-confounds_regressors.tsv")
_PREPROCESSED = "preproc"
_SEVERAL = 8


@dataclass(frozen=True)
class BoldFiles:
    """Files of one run.

    Parameters
    ----------
    subject, session, task, run : labels, session and run empty where the name has none
    bold : the 4-D image
    sidecars : the ones that speak of it, from the most general to its own
    events, confounds, mask : where there are any
    """

    subject: str
    session: str
    task: str
    run: str
    bold: Path
    sidecars: tuple[Path, ...]
    events: Path | None
    confounds: Path | None
    mask: Path | None

    @property
    def name(self) -> str:
        """Name of the run among those of its subject."""
        parts = {"ses": self.session, "task": self.task, "run": self.run}
        return "_".join(f"{entity}-{label}" for entity, label in parts.items() if label)

    def read_sidecar(self) -> dict[str, Any]:
        """Read what all sidecars say, the more special ones last, as BIDS inherits them."""
        told: dict[str, Any] = {}
        for path in self.sidecars:
            told |= read_sidecar(path)
        return told


def read_sidecar(path: Path, name: str = "") -> dict[str, Any]:
    """Read a sidecar.

    Raises
    ------
    BadInput
        It is no JSON object.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of thousands of digits, or too deep
        raise BadInput(f"{name or path.name}, which is no JSON ({error})", "a sidecar", "Write it again.") from error
    if not isinstance(told, dict):
        raise BadInput(f"{name or path.name}, a JSON {type(told).__name__}", "an object of fields", "Write it again.")
    return told


def find_entities(name: str) -> dict[str, str]:
    """Return the entities of a BIDS name, e.g. ``{"sub": "01", "task": "scenes"}``."""
    return dict(_ENTITY.findall(name))


def find_run_key(name: str) -> tuple[tuple[str, str], ...]:
    """Return what names of one run have in common: its entities without those that a derivative adds."""
    return tuple(sorted((entity, label) for entity, label in find_entities(name).items() if entity not in _DERIVED))


def name_run(name: str) -> str:
    """Return what names of one run share, subject and session left out, e.g. ``run-1_task-x``."""
    return (
        "_".join(f"{entity}-{label}" for entity, label in find_run_key(name) if entity not in ("sub", "ses")) or "run"
    )


def index_bold(
    root: Path, derivatives: Path | None = None, task: str | None = None, space: str | None = None
) -> tuple[BoldFiles, ...]:
    """List the runs of a BIDS data set with what belongs to each; no image is opened.

    Parameters
    ----------
    root : of the data set, which holds the events
    derivatives : of fMRIPrep; left out, ``derivatives/fmriprep`` of the root where it is there, else raw images are
        taken; root itself may be a folder of derivatives with events
    task : label, where there are several
    space : label, where derivatives hold several; ``T1w`` or ``MNI152NLin2009cAsym`` for example

    Raises
    ------
    NotFound
        There is no such folder, or no run.
    BadInput
        There are several tasks or spaces and none was chosen, or two images of one run.
    """
    for folder in (root, derivatives):
        if folder is not None and not folder.is_dir():
            raise NotFound(f"no folder {folder}", "a BIDS data set", "Check the path.")
    usual = root / "derivatives" / "fmriprep"
    if derivatives is None and usual.is_dir():
        derivatives = usual
    source = derivatives or root
    images = _choose(_find_images(source, apart=source == root), task, space)
    places = [root] if derivatives is None else [root, derivatives]
    tables = {ending: _group(places, ending) for ending in _TABLES}
    masks = _group([source], "_mask.nii.gz")
    runs = [_gather(path, places, tables, masks) for path in images]
    keys = [find_run_key(each.bold.name) for each in runs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice:
        names = ", ".join(each.bold.name for each, key in zip(runs, keys, strict=True) if key == twice)
        raise BadInput(f"several images of one run: {names}", "one", "Choose a space, or leave the others out.")
    return tuple(runs)


def _find_images(source: Path, apart: bool) -> list[Path]:
    found = [path for path in sorted(source.rglob("*_bold.nii*")) if _BOLD.search(path.name)]
    if apart:  # raw: other folders of derivatives lie inside the root
        found = [path for path in found if "derivatives" not in path.relative_to(source).parts]
    made = [path for path in found if find_entities(path.name).get("desc") == _PREPROCESSED]
    images = made or [path for path in found if "desc" not in find_entities(path.name)]
    if not images:
        raise NotFound(f"no *_bold.nii.gz in {source}", "runs of BOLD", "Check the path.")
    return images


def _choose(images: Sequence[Path], task: str | None, space: str | None) -> list[Path]:
    chosen = list(images)
    for entity, wanted in (("task", task), ("space", space)):
        there = sorted({find_entities(path.name).get(entity, "") for path in chosen})
        if wanted is None and len(there) > 1:
            named = ", ".join(label or "none" for label in there[:_SEVERAL])
            raise BadInput(f"runs of several {entity}s: {named}", "one", f"Choose a {entity}.")
        if wanted is not None:
            chosen = [path for path in chosen if find_entities(path.name).get(entity, "") == wanted]
            if not chosen:
                raise NotFound(f"no run of the {entity} {wanted!r}", f"one of {', '.join(there)}", "Correct the label.")
    return chosen


def _group(places: Sequence[Path], ending: str) -> dict[tuple[tuple[str, str], ...], list[Path]]:
    found: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for path in dict.fromkeys(path for place in places for path in sorted(place.rglob(f"*{ending}"))):
        found.setdefault(find_run_key(path.name), []).append(path)
    return found


def _gather(
    bold: Path,
    places: Sequence[Path],
    tables: Mapping[str, Mapping[tuple[tuple[str, str], ...], Sequence[Path]]],
    masks: Mapping[tuple[tuple[str, str], ...], Sequence[Path]],
) -> BoldFiles:
    entities, key = find_entities(bold.name), find_run_key(bold.name)
    events, *confounds = (next(iter(found.get(key, ())), None) for found in tables.values())
    return BoldFiles(
        entities.get("sub", ""),
        entities.get("ses", ""),
        entities.get("task", ""),
        entities.get("run", ""),
        bold,
        _find_sidecars(bold, places),
        events,
        next((path for path in confounds if path is not None), None),
        _find_mask(entities, masks.get(key, ())),
    )


def _find_mask(entities: Mapping[str, str], masks: Sequence[Path]) -> Path | None:
    same = [path for path in masks
            if all(find_entities(path.name).get(name) == entities.get(name) for name in ("space", "res"))]  # fmt: skip
    return next((path for path in same if find_entities(path.name).get("desc") == "brain"), None)


def _find_sidecars(bold: Path, places: Sequence[Path]) -> tuple[Path, ...]:
    """Return the sidecars above an image whose entities it has all of, from the top down (BIDS, inheritance)."""
    root = next((place for place in reversed(places) if bold.is_relative_to(place)), bold.parent)
    folders = [folder for folder in reversed(bold.parents) if folder.is_relative_to(root)]
    own = find_entities(bold.name).items()
    found = [path for folder in folders for path in sorted(folder.glob("*bold.json"))]
    fit = [path for path in found if find_entities(path.name).items() <= own]
    return tuple(sorted(fit, key=lambda path: (len(path.parts), len(find_entities(path.name)))))
