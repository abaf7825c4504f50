"""What people accepted or corrected, as a folder that a network can be trained on."""

import csv
import io
import json
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from voxelight.app.provenance import find_revision
from voxelight.app.schemas import NOTICE
from voxelight.app.schemas_reviews import TrainingCase, TrainingSetAnswer
from voxelight.app.verbs.privacy import refuse_export
from voxelight.models.errors import BadInput, Conflict
from voxelight.storage.formats.names import image_stem
from voxelight.storage.queries import find_dataset
from voxelight.storage.schema import (
    Artifact,
    Correction,
    Dataset,
    ImagingSession,
    Job,
    Review,
    Run,
    Scan,
    Segmentation,
    Subject,
)
from voxelight.storage.stores import Stores

_WORD = re.compile(r"[^A-Za-z0-9.-]+")
_AGAINST = ("reject", "unsure")
NOT_REVIEWED, NOT_ACCEPTED = "not reviewed", "rejected or unsure"


@dataclass(frozen=True)
class _Chosen:
    """A scan with the label map that people stand behind."""

    run: Run
    kind: str
    labels: Artifact
    names: dict[int, str]
    people: tuple[str, ...]


def write_training_set(stores: Stores, dataset: str, out: Path, recipe: str | None = None) -> TrainingSetAnswer:
    """Write images, label maps, groups and provenance of what was accepted or corrected.

    Of each scan the newest result counts that has a correction or a verdict. A correction is taken unless somebody
    rejected or doubted the result after it was drawn; a network's own label map is taken where somebody accepted it and
    nobody rejected or doubted it.

    Parameters
    ----------
    stores : where the results lie
    dataset : name
    out : folder to be made: ``images/``, ``labels/``, ``groups.csv``, ``training_set.json``
    recipe : only results of this one

    Raises
    ------
    NotFound
        There is no such data set.
    Refused
        It keeps identity in its headers.
    BadInput
        Nothing was accepted or corrected, or results have other labels than others.
    Conflict
        The folder is there and holds something.
    """
    if out.exists() and any(out.iterdir()):
        raise Conflict(f"{out}, which is not empty", "a new folder", "Name another, or empty it.")
    with stores.sessions() as session:
        row = find_dataset(session, dataset)
        refuse_export(row)
        chosen, left_out = _choose(session, row, recipe)
        names = _agree(chosen, left_out, dataset)
        cases = [_describe(each) for each in chosen]
        facts = _tell(row, cases, names, left_out)
        places = [(each.run.scan.name, each.labels.name) for each in chosen]
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        for case, (image, labels) in zip(cases, places, strict=True):
            _copy(stores, case.image_sha256, temporary / "images" / f"{case.name}{_suffix(image)}")
            _copy(stores, case.labels_sha256, temporary / "labels" / f"{case.name}{_suffix(labels)}")
        (temporary / "groups.csv").write_text(_write_groups(cases), encoding="utf-8")
        (temporary / "training_set.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
        if out.exists():
            out.rmdir()
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return TrainingSetAnswer(folder=str(out), cases=cases, labels=names, left_out=dict(left_out), notice=NOTICE)


def _choose(session: Session, dataset: Dataset, recipe: str | None) -> tuple[list[_Chosen], Counter[str]]:
    """Return the newest result of each scan that people stand behind, and why the others are left out."""
    of_scan: dict[uuid.UUID, list[Run]] = {}
    for run in session.scalars(_select(dataset, recipe)):
        of_scan.setdefault(run.scan_id, []).append(run)
    chosen, left_out = [], Counter[str]()
    for runs in of_scan.values():
        judged = (found for run in runs if (found := _judge(session, run)) != NOT_REVIEWED)
        found = next(judged, NOT_REVIEWED)
        if isinstance(found, str):
            left_out[found] += 1
        else:
            chosen.append(found)
    return chosen, left_out


def _select(dataset: Dataset, recipe: str | None) -> Any:
    query = (
        select(Run)
        .join(Run.job)
        .join(Run.subject)
        .where(Job.kind == "segment", Run.status == "done", Subject.dataset_id == dataset.id)
        .options(
            joinedload(Run.job).joinedload(Job.model),
            joinedload(Run.scan).joinedload(Scan.imaging_session).joinedload(ImagingSession.subject),
        )
        .order_by(Subject.label, Run.scan_id, Run.finished_at.desc(), Run.id)
    )
    return query if recipe is None else query.where(Job.recipe == recipe)


def _judge(session: Session, run: Run) -> _Chosen | str:
    reviews = session.scalars(select(Review).where(Review.run_id == run.id).order_by(Review.reviewer)).all()
    drawn = select(Correction).where(Correction.run_id == run.id).order_by(Correction.created_at.desc(), Correction.id)
    newest = session.scalar(drawn.options(joinedload(Correction.artifact)).limit(1))
    own = session.scalar(select(Segmentation).where(Segmentation.run_id == run.id))
    if own is None or (newest is None and not reviews):
        return NOT_REVIEWED
    names = {int(number): str(name) for number, name in own.labels.items()}
    if _refused(reviews, newest.created_at if newest else None):
        return NOT_ACCEPTED
    if newest is not None:
        return _Chosen(run, "corrected", newest.artifact, names, (newest.author,))
    people = tuple(review.reviewer for review in reviews)
    return _Chosen(run, "accepted", session.get_one(Artifact, own.artifact_id), names, people)


def _refused(reviews: Sequence[Review], drawn: datetime | None) -> bool:
    """Return whether somebody is against it; a verdict from before the correction is about what was corrected."""
    return any(review.verdict in _AGAINST and (drawn is None or review.updated_at > drawn) for review in reviews)


def _agree(chosen: Sequence[_Chosen], left_out: Counter[str], dataset: str) -> dict[int, str]:
    tables = {tuple(sorted(each.names.items())) for each in chosen}
    if len(tables) != 1:
        recipes = ", ".join(sorted({each.run.job.recipe for each in chosen})) or "none"
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise BadInput(
            f"{len(chosen)} accepted or corrected results in {dataset}, of the recipes {recipes}"
            + (f" ({told})" if told else ""),
            "at least one, and one set of labels",
            "Review results first." if not chosen else "Name the recipe: --recipe.",
        )
    return dict(tables.pop())


def _describe(chosen: _Chosen) -> TrainingCase:
    run = chosen.run
    visit = run.scan.imaging_session
    words = (visit.subject.label, visit.label, image_stem(run.scan.name))
    return TrainingCase(
        name="_".join(_WORD.sub("-", word) for word in words if word),
        subject=visit.subject.label,
        kind=chosen.kind,  # type: ignore[arg-type]  # one of two
        people=list(chosen.people),
        run=run.id,
        recipe=run.job.recipe,
        model=run.job.model.name,
        weights_sha256=run.job.model.weights_sha256,
        image_sha256=run.scan.blob_sha256,
        labels_sha256=chosen.labels.blob_sha256,
    )


def _tell(
    dataset: Dataset, cases: Sequence[TrainingCase], names: dict[int, str], left_out: Counter[str]
) -> dict[str, Any]:
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if twice:
        raise BadInput(f"two cases that would be named {twice[0]}", "names that differ", "Rename one of the scans.")
    return {
        "dataset": dataset.name,
        "source": dataset.source,
        "licence": dataset.licence,
        "consent": dataset.consent,
        "purpose": dataset.purpose,
        "simulated": dataset.simulated,
        "labels": {str(number): name for number, name in names.items()},
        "left_out": dict(left_out),
        "cases": [case.model_dump(mode="json") for case in cases],
        "revision": find_revision(),
        "notice": NOTICE,
    }


def _write_groups(cases: Sequence[TrainingCase]) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(("case", "group"))
    table.writerows((case.name, case.subject) for case in cases)
    return buffer.getvalue()


def _suffix(name: str) -> str:
    return name[len(image_stem(name)) :]


def _copy(stores: Stores, sha256: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with stores.blobs.local_file(sha256, place.name) as path:
        shutil.copyfile(path, place)


def list_kinds(cases: Sequence[TrainingCase]) -> Iterator[str]:
    """Yield in words how many cases there are of each kind."""
    for kind, count in sorted(Counter(case.kind for case in cases).items()):
        yield f"{count} {kind}"
