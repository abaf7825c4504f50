"""Words that name what is deleted, in rows that stay: logs, requests and notes of jobs, and saved searches."""

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from voxelight.storage.schema import Dataset, Job, JobEvent, Model, Run, SavedSearch, Scan, Subject

if TYPE_CHECKING:
    from voxelight.storage.deletion import Extent

ERASED_LINE = "A line that named what was deleted since."
_AT_ONCE = 500


@dataclass(frozen=True)
class Words:
    """By which something may be named elsewhere.

    Parameters
    ----------
    labels : of subjects that go, where no subject that stays has them
    places : (name of data set, label), of all subjects that go
    names : file names of scans that go, where no scan that stays has them
    items : keys of items that go
    scans : ids, as text
    whole : names of data sets that go
    """

    labels: frozenset[str]
    places: frozenset[tuple[str, str]]
    names: frozenset[str]
    items: frozenset[str]
    scans: frozenset[str]
    whole: frozenset[str]

    def pattern(self) -> re.Pattern[str]:
        """Return what finds any of them in a line: names and keys as they are, labels as the beginning of a key."""
        parts = [re.escape(text) for text in sorted(self.names | self.items | self.scans)]
        parts += [rf"(?<![\w.-]){re.escape(label)}(?=/)" for label in sorted(self.labels)]
        parts += [rf"(?<![\w.-])sub-{re.escape(label)}(?![A-Za-z0-9])" for label in sorted(self.labels)]
        return re.compile("|".join(parts) or r"(?!)")


def list_words(session: Session, extent: "Extent") -> Words:
    """Return the words that name an extent, before its rows go."""
    subjects = _read(
        session, select(Subject.id, Subject.label, Dataset.name).join(Dataset), Subject.id, extent.subjects
    )
    scans = _read(session, select(Scan.id, Scan.name), Scan.id, extent.scans)
    items = _read(session, select(Run.id, Run.item_key), Run.id, extent.runs)
    labels, names = {row.label for row in subjects}, {row.name for row in scans}
    stay = _read(session, select(Subject.id, Subject.label), Subject.label, labels)
    others = _read(session, select(Scan.id, Scan.name), Scan.name, names)
    whole = session.scalars(select(Dataset.name).where(Dataset.id == extent.dataset_id)) if extent.whole else ()
    return Words(
        labels=frozenset(labels - {row.label for row in stay if row.id not in extent.subjects}),
        places=frozenset((row.name, row.label) for row in subjects),
        names=frozenset(names - {row.name for row in others if row.id not in extent.scans}),
        items=frozenset(row.item_key for row in items if "/" in row.item_key),
        scans=frozenset(text for scan in extent.scans for text in (str(scan), scan.hex)),
        whole=frozenset(whole),
    )


def find_labels(session: Session, extent: "Extent") -> set[str]:
    """Return the labels of the subjects that go, and that nobody else has."""
    return set(list_words(session, extent).labels)


def forget_words(session: Session, extent: "Extent", words: Words) -> None:
    """Take the words out of jobs that stay, and remove saved searches that ask for what is gone."""
    finds = words.pattern()
    for job_id in sorted(extent.touched):
        job = session.get_one(Job, job_id)
        job.params = _forget_request(session, job, finds)
        if finds.search(job.error):
            job.error = ERASED_LINE
        if job.idempotency_key and finds.search(job.idempotency_key):
            job.idempotency_key = None
        for event in session.scalars(select(JobEvent).where(JobEvent.job_id == job_id)):
            if finds.search(event.message):
                event.message = ERASED_LINE
    for search in session.scalars(select(SavedSearch)):
        if _asks_for(search.query, words) or finds.search(f"{search.title} {search.slug}"):
            session.execute(delete(SavedSearch).where(SavedSearch.id == search.id))
    session.flush()


def find_model_rows(session: Session, jobs: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Return the ids of the rows of models that some jobs name."""
    return {row.model_id for row in _read(session, select(Job.id, Job.model_id), Job.id, jobs)}


def remove_unused(session: Session, models: Iterable[uuid.UUID]) -> None:
    """Remove the rows of models that no job names any more; what a person called a training stands in them."""
    for model_id in sorted(models):
        session.execute(delete(Model).where(Model.id == model_id, Model.id.not_in(select(Job.model_id))))


def _forget_request(session: Session, job: Job, finds: re.Pattern[str]) -> dict[str, Any]:
    """Return what a job was asked for by, with the scans that are left in place of those that are gone."""
    params = dict(job.params)
    params["notes"] = [ERASED_LINE if finds.search(note) else note for note in params.get("notes", [])]
    request = dict(params.get("request", {}))
    asked = [*request.get("scans", []), *(request.get("query") or {}).values()]
    if any(isinstance(each, str) and (finds.search(each) or finds.search(f"{each}/")) for each in asked):
        left = session.scalars(select(Run.scan_id).where(Run.job_id == job.id).order_by(Run.position))
        request |= {"scans": [str(scan) for scan in dict.fromkeys(left)], "query": None}
        params["request"] = request
    return params


def _asks_for(query: dict[str, Any], words: Words) -> bool:
    dataset, label, scan = (query.get(name) for name in ("dataset", "subject", "scan"))
    if dataset in words.whole or scan in words.names:
        return True
    return label in words.labels if dataset is None else (dataset, label) in words.places


def _read(session: Session, query: Any, column: Any, values: Iterable[Any]) -> list[Any]:
    whole = sorted(values)
    return [
        row
        for start in range(0, len(whole), _AT_ONCE)
        for row in session.execute(query.where(column.in_(whole[start : start + _AT_ONCE])))
    ]
