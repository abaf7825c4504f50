"""Delete what belongs to a data set, a subject, a scan, a job or a result: rows first, then files that no row names.

What is made of several things goes with any of them: a job that read a deleted scan beside others goes whole, and what
belongs to a job as a whole, its contact sheet for one, goes with any of its results.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from voxelight.models.errors import Conflict
from voxelight.storage.derived import find_derived_subjects
from voxelight.storage.erasure import find_model_rows, forget_words, list_words, remove_unused
from voxelight.storage.identity_links import sweep_links
from voxelight.storage.results import count_runs
from voxelight.storage.schema import (
    Action,
    Artifact,
    Blob,
    Correction,
    Dataset,
    Embedding,
    ImagingSession,
    Job,
    Metric,
    Receipt,
    Review,
    Run,
    Scan,
    Subject,
    Upload,
)
from voxelight.storage.vectors import remove_embeddings

Ids = frozenset[uuid.UUID]
_NONE: Ids = frozenset()
_AT_ONCE = 500
_ACTIVE = ("queued", "running")
_READ = ("inputs", "pairs", "options")  # where a plan names the scans that all its items read


@dataclass(frozen=True)
class Extent:
    """What goes.

    Parameters
    ----------
    dataset_id : that all of it is in
    whole : whether the data set itself goes
    subjects, scans, jobs, runs, uploads : ids of rows; runs of the jobs are among the runs
    touched : jobs that lose some of their runs, and all that was made of them together
    derived : other data sets that lose what was made of it
    """

    dataset_id: uuid.UUID
    whole: bool = False
    subjects: Ids = _NONE
    scans: Ids = _NONE
    jobs: Ids = _NONE
    runs: Ids = _NONE
    uploads: Ids = _NONE
    touched: Ids = _NONE
    derived: Ids = _NONE


@dataclass(frozen=True)
class Removed:
    """What went, or would go.

    Parameters
    ----------
    counts : what -> how many
    sha256s : of the files that no other row names
    shared : files that stay, since another row names the same content
    stages : whether results of stages may be kept that were made of it
    """

    counts: dict[str, int]
    sha256s: tuple[str, ...]
    shared: int
    stages: bool
    extent: Extent = field(repr=False, default=Extent(uuid.UUID(int=0)))


def find_extent(session: Session, row: Dataset | Subject | Scan | Job | Run) -> Extent:
    """Return all that goes with a row."""
    if isinstance(row, Dataset):
        everybody = _ids(session, Subject, Subject.dataset_id == row.id)
        return _derive(session, _extend(session, row.id, subjects=everybody, whole=True))
    if isinstance(row, Subject):
        return _derive(session, _extend(session, row.dataset_id, subjects=frozenset({row.id})))
    if isinstance(row, Scan):
        dataset_id = row.imaging_session.subject.dataset_id
        return _derive(session, _extend(session, dataset_id, scans=frozenset({row.id})))
    if isinstance(row, Job):
        return _extend(session, row.dataset_id, jobs=frozenset({row.id}))
    return _extend(session, row.job.dataset_id, runs=frozenset({row.id}))


def refuse_active(session: Session, extent: Extent) -> None:
    """Refuse to delete what somebody works on.

    Raises
    ------
    Conflict
        A job waits or runs, or something is asked of a finished one.
    """
    jobs = extent.jobs | extent.touched
    for chunk in _chunks(jobs):
        working = exists().where(Action.job_id == Job.id, Action.status.in_(_ACTIVE))
        active = session.scalar(select(Job).where(Job.id.in_(chunk), or_(Job.status.in_(_ACTIVE), working)).limit(1))
        if active is not None:
            raise Conflict(
                f"job {active.id}, which is {active.status} and works on it",
                "jobs that have ended",
                f"Cancel it and wait for its end: voxelight jobs cancel {active.id}",
            )


def measure(session: Session, extent: Extent) -> Removed:
    """Count what goes, and find the files that go with it."""
    files = _find_files(session, extent)
    shared = _find_named(session, files, extent)
    sizes = _sum_over(session, func.coalesce(func.sum(Blob.size), 0), Blob.sha256, files - shared)
    counts = {
        "data sets": int(extent.whole),
        "subjects": len(extent.subjects),
        "scans": len(extent.scans),
        "jobs": len(extent.jobs),
        "results": len(extent.runs),
        "uploads": len(extent.uploads),
        **{
            name: _sum_over(session, func.count(), table.run_id, extent.runs)
            for name, table in (("scores", Metric), ("reviews", Review), ("corrections", Correction))
        },
        "vectors": _count_vectors(session, extent),
        "files": len(files) - len(shared),
        "bytes": sizes,
    }
    stages = _sum_over(session, func.count(), Job.id, extent.jobs | extent.touched, Job.kind != "segment")
    return Removed(counts, tuple(sorted(files - shared)), len(shared), bool(stages), extent)


def remove_rows(session: Session, removed: Removed) -> None:
    """Delete the rows of an extent, in the order that leaves nothing behind."""
    extent = removed.extent
    words, models = list_words(session, extent), find_model_rows(session, extent.jobs)
    for column, ids in ((Embedding.scan_id, extent.scans), (Embedding.run_id, extent.runs)):
        for chunk in _chunks(ids):
            remove_embeddings(session, column.in_(chunk))
    for chunk in _chunks(extent.touched):
        session.execute(delete(Action).where(Action.job_id.in_(chunk)))
        for table in (Artifact, Metric):
            session.execute(delete(table).where(table.job_id.in_(chunk), table.run_id.is_(None)))
    rows: tuple[tuple[Any, Ids], ...] = (
        (Job, extent.jobs),
        (Run, extent.runs),
        (Scan, extent.scans),
        (Upload, extent.uploads),
    )
    for kind, ids in rows:
        for chunk in _chunks(ids):
            session.execute(delete(kind).where(kind.id.in_(chunk)))
    _remove_empty(session, extent)
    session.expire_all()
    for job_id in sorted(extent.touched):
        count_runs(session, session.get_one(Job, job_id))
    forget_words(session, extent, words)
    remove_unused(session, models)
    for chunk in _chunks(removed.sha256s):
        session.execute(delete(Blob).where(Blob.sha256.in_(chunk)))
    session.flush()


def write_receipt(session: Session, removed: Removed, what: str, name: str, author: str, reason: str) -> Receipt:
    """Write down what went: counts and hashes, never content."""
    kept = {name: count for name, count in removed.counts.items() if count}
    row = Receipt(
        what=what,
        name=name,
        author=author,
        reason=reason,
        counts=kept | ({"files shared with others, kept": removed.shared} if removed.shared else {}),
        sha256s=list(removed.sha256s),
    )
    session.add(row)
    session.flush()
    return row


def find_named(session: Session, sha256s: Iterable[str]) -> set[str]:
    """Return those of some hashes that a row names by now."""
    named = (session.scalars(select(Blob.sha256).where(Blob.sha256.in_(chunk))) for chunk in _chunks(sha256s))
    return {sha256 for each in named for sha256 in each}


def _extend(
    session: Session,
    dataset_id: uuid.UUID,
    *,
    subjects: Ids = _NONE,
    scans: Ids = _NONE,
    jobs: Ids = _NONE,
    runs: Ids = _NONE,
    whole: bool = False,
) -> Extent:
    """Follow rows to all that belongs to them."""
    for chunk in _chunks(subjects):
        of_them = select(Scan.id).join(Scan.imaging_session).where(ImagingSession.subject_id.in_(chunk))
        scans |= frozenset(session.scalars(of_them))
    jobs |= _ids(session, Job, Job.dataset_id == dataset_id) if whole else _find_readers(session, dataset_id, scans)
    for column, ids in ((Run.subject_id, subjects), (Run.scan_id, scans), (Run.job_id, jobs)):
        for chunk in _chunks(ids):
            runs |= frozenset(session.scalars(select(Run.id).where(column.in_(chunk))))
    of_runs: set[uuid.UUID] = set()
    for chunk in _chunks(runs):
        of_runs |= set(session.scalars(select(Run.job_id).where(Run.id.in_(chunk)).distinct()))
    left = {job for job in of_runs - jobs if _has_other_runs(session, job, runs)}
    return Extent(
        dataset_id=dataset_id,
        whole=whole,
        subjects=subjects,
        scans=scans,
        jobs=jobs | (of_runs - left),
        runs=runs,
        uploads=_find_uploads(session, dataset_id, subjects, scans, whole),
        touched=frozenset(left),
    )


def _derive(session: Session, extent: Extent) -> Extent:
    """Add what was estimated from it and lies in data sets of its own, and what was made of that in turn."""
    jobs = [session.get_one(Job, job_id) for job_id in sorted(extent.jobs | extent.touched)]
    for subject in find_derived_subjects(session, jobs, extent.runs):
        if subject.id not in extent.subjects:
            more = _derive(session, _extend(session, subject.dataset_id, subjects=frozenset({subject.id})))
            extent = _join(extent, more)
    return extent


def _join(extent: Extent, more: Extent) -> Extent:
    sets = ("subjects", "scans", "jobs", "runs", "uploads", "touched", "derived")
    joined = {name: getattr(extent, name) | getattr(more, name) for name in sets}
    joined["touched"] -= joined["jobs"]
    joined["derived"] |= {more.dataset_id}
    return replace(extent, **joined)


def _find_readers(session: Session, dataset_id: uuid.UUID, scans: Ids) -> Ids:
    """Return the jobs that read some scans beside those that their items are about."""
    if not scans:
        return _NONE
    readers = set()
    for job_id, params in session.execute(select(Job.id, Job.params).where(Job.dataset_id == dataset_id)):
        if any(scans & _named_in(params.get(part, {})) for part in _READ):
            readers.add(job_id)
    return frozenset(readers)


def _named_in(inputs: Any) -> set[uuid.UUID]:
    """Return the ids in what a plan wrote down."""
    if isinstance(inputs, dict):
        return {one for value in inputs.values() for one in _named_in(value)}
    if isinstance(inputs, list):
        return {one for value in inputs for one in _named_in(value)}
    try:
        return {uuid.UUID(inputs)} if isinstance(inputs, str) else set()
    except ValueError:
        return set()


def _has_other_runs(session: Session, job_id: uuid.UUID, runs: Ids) -> bool:
    return any(run not in runs for run in session.scalars(select(Run.id).where(Run.job_id == job_id)))


def _find_uploads(session: Session, dataset_id: uuid.UUID, subjects: Ids, scans: Ids, whole: bool) -> Ids:
    labels = set()
    for chunk in _chunks(subjects):
        labels |= set(session.scalars(select(Subject.label).where(Subject.id.in_(chunk))))
    named = {str(scan) for scan in scans}
    uploads = session.execute(select(Upload.id, Upload.subject, Upload.scans).where(Upload.dataset_id == dataset_id))
    return frozenset(row.id for row in uploads if whole or row.subject in labels or named & set(map(str, row.scans)))


def _find_files(session: Session, extent: Extent) -> set[str]:
    """Return the hashes that the extent names."""
    files: set[str] = set()
    for chunk in _chunks(extent.scans):
        files |= {
            sha
            for row in session.execute(select(Scan.blob_sha256, Scan.thumbnail_sha256).where(Scan.id.in_(chunk)))
            for sha in row
            if sha
        }
    for condition in _artifacts(extent):
        files |= set(session.scalars(select(Artifact.blob_sha256).where(condition)))
    return files


def _artifacts(extent: Extent) -> Iterable[ColumnElement[bool]]:
    """Yield conditions that hold, one or another, for each artifact that goes."""
    for chunk in _chunks(extent.runs):
        yield Artifact.run_id.in_(chunk)
    for chunk in _chunks(extent.jobs):
        yield Artifact.job_id.in_(chunk)
    for chunk in _chunks(extent.touched):
        yield and_(Artifact.job_id.in_(chunk), Artifact.run_id.is_(None))


def _find_named(session: Session, files: set[str], extent: Extent) -> set[str]:
    """Return those files that a row outside the extent names too."""
    shared: set[str] = set()
    for chunk in _chunks(files):
        for column in (Scan.blob_sha256, Scan.thumbnail_sha256):
            rows = session.execute(select(Scan.id, column).where(column.in_(chunk)))
            shared |= {sha for scan, sha in rows if sha and scan not in extent.scans}
        artifacts = select(Artifact.run_id, Artifact.job_id, Artifact.blob_sha256).where(
            Artifact.blob_sha256.in_(chunk)
        )
        for run, job, sha in session.execute(artifacts):
            goes = job in extent.jobs or (run in extent.runs if run else job in extent.touched)
            if not goes:
                shared.add(sha)
    return shared


def _remove_empty(session: Session, extent: Extent) -> None:
    """Delete the subjects, the sessions and subjects that have nothing left, and links to what is gone."""
    for chunk in _chunks(extent.subjects):
        session.execute(delete(Subject).where(Subject.id.in_(chunk)))
    if extent.whole:
        session.execute(delete(Dataset).where(Dataset.id == extent.dataset_id))
    for dataset_id in sorted(({extent.dataset_id} if not extent.whole and extent.scans else set()) | extent.derived):
        of_dataset = select(Subject.id).where(Subject.dataset_id == dataset_id)
        filled = select(Scan.imaging_session_id)
        session.execute(
            delete(ImagingSession).where(ImagingSession.subject_id.in_(of_dataset), ImagingSession.id.not_in(filled))
        )
        seen = select(ImagingSession.subject_id)
        session.execute(delete(Subject).where(Subject.dataset_id == dataset_id, Subject.id.not_in(seen)))
        sweep_links(session, dataset_id)


def _count_vectors(session: Session, extent: Extent) -> int:
    found: set[int] = set()
    for column, ids in ((Embedding.scan_id, extent.scans), (Embedding.run_id, extent.runs)):
        for chunk in _chunks(ids):
            found |= set(session.scalars(select(Embedding.id).where(column.in_(chunk))))
    return len(found)


def _ids(session: Session, table: type[Subject] | type[Job], condition: ColumnElement[bool]) -> Ids:
    return frozenset(session.scalars(select(table.id).where(condition)))


def _sum_over(
    session: Session, what: ColumnElement[int], column: Any, ids: Iterable[Any], *conditions: ColumnElement[bool]
) -> int:
    return sum(int(session.scalar(select(what).where(column.in_(chunk), *conditions)) or 0) for chunk in _chunks(ids))


def _chunks(ids: Iterable[Any]) -> Iterable[Sequence[Any]]:
    whole = sorted(ids)
    return (whole[start : start + _AT_ONCE] for start in range(0, len(whole), _AT_ONCE))
