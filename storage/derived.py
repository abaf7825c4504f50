"""What was made of scans and lies elsewhere: betas in data sets of their own, and models that were trained on them."""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.storage.decoders import TrainedDecoders
from voxelight.storage.formats.streams import replacing
from voxelight.storage.model_folders import FACTS, ModelFolders
from voxelight.storage.schema import Dataset, Job, Run, Scan, Subject
from voxelight.storage.trained import TrainedModels

ERASED = "trained_on_erased_data"
_FILES = "inputs_sha256"


@dataclass(frozen=True)
class MadeModel:
    """A model of this installation that saw what goes.

    Parameters
    ----------
    kind : ``segmentation`` or ``decoder``
    name : of the model
    """

    kind: str
    name: str


def find_derived_subjects(session: Session, jobs: Iterable[Job], runs: Iterable[uuid.UUID]) -> list[Subject]:
    """Return the subjects of other data sets whose betas were estimated from some runs.

    Parameters
    ----------
    session : open session
    jobs : that may have written a data set
    runs : ids of their runs that go
    """
    going = set(runs)
    found: list[Subject] = []
    for job in jobs:
        if job.kind != "glm" or "output" not in job.params:
            continue
        there = session.scalar(select(Dataset).where(Dataset.name == job.params["output"]))
        if there is None or f"Job {job.id}." not in there.source:
            continue
        labels = select(Run.id, Subject.label).join(Subject, Subject.id == Run.subject_id).where(Run.job_id == job.id)
        wanted = {label for run, label in session.execute(labels) if run in going}
        found += session.scalars(select(Subject).where(Subject.dataset_id == there.id, Subject.label.in_(wanted)))
    return found


def find_hashes(session: Session, scans: Sequence[uuid.UUID]) -> set[str]:
    """Return the hashes of the files of some scans."""
    return set(session.scalars(select(Scan.blob_sha256).where(Scan.id.in_(scans))))


def find_models(weights: Path, jobs: Iterable[uuid.UUID], sha256s: Iterable[str]) -> list[MadeModel]:
    """Return the models that some jobs trained, that read some files, or that began from one of these.

    Parameters
    ----------
    weights : folder of all weights of the installation
    jobs : ids
    sha256s : of files that a training may have read
    """
    names, hashes = {str(job) for job in jobs}, set(sha256s)
    known = {place: model.provenance for place, model in _list(weights)}
    found = [place for place, told in known.items() if _saw(told, names, hashes)]
    while more := [
        place
        for place, told in known.items()
        if place not in found and told.get("start_from") in {each.name for each in found}
    ]:
        found += more
    return sorted(found, key=lambda each: (each.kind, each.name))


def remove_models(weights: Path, models: Iterable[MadeModel]) -> None:
    """Remove models with their weights."""
    for model in models:
        folders = _folders(weights)[model.kind]
        if folders.has(model.name):
            folders.remove(model.name)


def mark_models(weights: Path, models: Iterable[MadeModel], note: str, sha256s: Iterable[str]) -> None:
    """Say of models that stay that they saw what was erased; names of its files are taken out of what is told of them.

    Parameters
    ----------
    weights : folder of all weights of the installation
    models : that stay
    note : when and by which receipt
    sha256s : of the files that went
    """
    gone = set(sha256s)
    for model in models:
        place = weights / _FOLDERS[model.kind] / model.name
        told = json.loads((place / FACTS).read_text("utf-8"))
        facts = told["provenance"]
        facts[ERASED] = [*facts.get(ERASED, []), note]
        if _FILES in facts:
            kept = {name: sha for name, sha in facts[_FILES].items() if sha not in gone}
            facts[_FILES] = kept | {f"erased-{n}": "" for n in range(1, len(facts[_FILES]) - len(kept) + 1)}
        for name, text in (
            (FACTS, json.dumps(told, indent=2)),
            ("card.md", f"{_read_card(place).rstrip()}\n\n## Erased data\n\n{note} The weights stay, and were "
                        "fitted to it.\n"),
        ):  # fmt: skip
            with replacing(place / name) as file:
                file.write(text.encode())


def _saw(told: Mapping[str, Any], jobs: set[str], hashes: set[str]) -> bool:
    return told.get("job") in jobs or bool(hashes & set(told.get(_FILES, {}).values()))


_FOLDERS = {"segmentation": "segmentation", "decoder": "decoders"}


def _folders(weights: Path) -> dict[str, Any]:
    return {"segmentation": TrainedModels(weights), "decoder": TrainedDecoders(weights)}


def _list(weights: Path) -> list[tuple[MadeModel, Any]]:
    folders: dict[str, ModelFolders[Any]] = _folders(weights)
    return [(MadeModel(kind, model.name), model) for kind, each in folders.items() for model in each.list()]


def _read_card(place: Path) -> str:
    path = place / "card.md"
    return path.read_text("utf-8") if path.is_file() else ""
