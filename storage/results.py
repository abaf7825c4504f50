"""Write down what a run gave, once, however often the step that made it is repeated."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from voxelight.storage.artifacts import BlobRef
from voxelight.storage.leases import return_starts
from voxelight.storage.schema import (
    Artifact,
    Dataset,
    Job,
    Metric,
    Reconstruction,
    ResultWord,
    Run,
    Segmentation,
    utc_now,
)
from voxelight.storage.stores import Stores, name_blobs
from voxelight.storage.words import split_words


@dataclass(frozen=True)
class OutputFile:
    """A file that came out: what it is for, its name and its content."""

    role: str
    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Score:
    """A number with its interval; `detail` holds its null and how it was made."""

    name: str
    value: float
    label: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decoded:
    """What was decoded from the responses to one stimulus.

    Parameters
    ----------
    stimulus : its id
    name : file that shows it
    role : of that file
    rank : number of the sample
    seed : that it was drawn by; None: that of the job
    caption : in words
    retrieved : stimuli of the data set whose pictures come next, the closest first
    """

    stimulus: str
    name: str
    role: str = "reconstruction"
    rank: int = 0
    seed: int | None = None
    caption: str = ""
    retrieved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Parameters
    ----------
    files : everything that is kept
    provenance : enough to run it again
    scores : numbers about this item
    label_names, volumes_ml : of a segmentation, whose label map has the role `label_map`
    decoded : of a reconstruction, one row a stimulus and sample
    """

    files: tuple[OutputFile, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    label_names: dict[int, str] = field(default_factory=dict)
    volumes_ml: dict[str, float] = field(default_factory=dict)
    decoded: tuple[Decoded, ...] = ()


@dataclass(frozen=True)
class JobOutcome:
    """What belongs to a job as a whole.

    Parameters
    ----------
    files, scores : of the job
    run_scores : run -> scores that could be given only once all runs were done
    """

    files: tuple[OutputFile, ...] = ()
    scores: tuple[Score, ...] = ()
    run_scores: dict[uuid.UUID, tuple[Score, ...]] = field(default_factory=dict)


def record_run(stores: Stores, run_id: uuid.UUID, outcome: Outcome) -> None:
    """Store the files, then in one transaction their rows, the run's end and the job's counters."""
    refs = [stores.blobs.put_bytes(file.content) for file in outcome.files]
    about = select(Run.status, Run.attempts, Run.job_id, Run.scan_id, Run.subject_id, Job.seed, Dataset.simulated)
    with stores.sessions.begin() as session:
        run = session.execute(about.join(Run.job).join(Job.dataset).where(Run.id == run_id)).one()
        is_first = run.status == "running" and run.attempts == 1
        if not is_first:
            _forget(session, run.job_id, run_id)
        artifacts = _write_artifacts(session, run.job_id, run_id, outcome.files, refs)
        _write_scores(session, run.job_id, run_id, outcome.scores)
        if outcome.label_names:
            session.add(
                Segmentation(
                    run_id=run_id,
                    scan_id=run.scan_id,
                    artifact_id=next(a.id for a in artifacts if a.role == "label_map"),
                    labels={str(number): name for number, name in outcome.label_names.items()},
                    volumes_ml=outcome.volumes_ml,
                )
            )
        by_name = {(artifact.role, artifact.name): artifact.id for artifact in artifacts}
        session.add_all(
            Reconstruction(
                run_id=run_id,
                subject_id=run.subject_id,
                stimulus_id=found.stimulus,
                artifact_id=by_name[found.role, found.name],
                seed=run.seed if found.seed is None else found.seed,
                rank=found.rank,
                simulated=run.simulated,
                caption=found.caption,
                retrieved=list(found.retrieved),
            )
            for found in outcome.decoded
        )
        words = split_words(*(text for found in outcome.decoded for text in (found.stimulus, found.caption)))
        session.add_all(ResultWord(word=word, run_id=run_id) for word in sorted(words))
        nothing = dict.fromkeys(("error_class", "error_message", "traceback"), "")
        ended = {"status": "done", "finished_at": utc_now(), "provenance": outcome.provenance, **nothing}
        session.execute(update(Run).where(Run.id == run_id).values(ended))
        if is_first:  # one more, which in a large job is told faster than by counting all
            session.execute(update(Job).where(Job.id == run.job_id).values(done=Job.done + 1))
        else:
            count_runs(session, session.get_one(Job, run.job_id))


def record_failure(stores: Stores, run_id: uuid.UUID, error_class: str, message: str, traceback: str) -> None:
    """Keep why a run failed."""
    with stores.sessions.begin() as session:
        run = session.get_one(Run, run_id)
        run.status, run.finished_at = "failed", utc_now()
        run.error_class, run.error_message, run.traceback = error_class, message, traceback
        session.flush()
        count_runs(session, run.job)


def release_runs(stores: Stores, run_ids: Sequence[uuid.UUID]) -> None:
    """Give back runs that were started and are to be left alone, if their job is cancelled and not taken up again."""
    cancelled = select(Job.id).where(Job.status == "cancelled")
    with stores.sessions.begin() as session:
        under_way = update(Run).where(Run.id.in_(run_ids), Run.status == "running", Run.job_id.in_(cancelled))
        session.execute(under_way.values(status="cancelled"))


def return_runs(stores: Stores, run_ids: Sequence[uuid.UUID]) -> None:
    """Put runs that were started and are left for another worker back; that start does not count against them."""
    with stores.sessions.begin() as session:
        return_starts(session, Run.id.in_(run_ids))


def forgive_starts(stores: Stores, run_ids: Sequence[uuid.UUID]) -> None:
    """Take a start off runs that are not done: whoever began them was given up and is alive all the same."""
    with stores.sessions.begin() as session:
        left = update(Run).where(Run.id.in_(run_ids), Run.status.in_(("pending", "running")), Run.attempts > 0)
        session.execute(left.values(attempts=Run.attempts - 1))


def record_job(stores: Stores, job_id: uuid.UUID, outcome: JobOutcome) -> None:
    """Store what belongs to a job as a whole, in place of what an earlier attempt stored."""
    refs = [stores.blobs.put_bytes(file.content) for file in outcome.files]
    with stores.sessions.begin() as session:
        _forget(session, job_id, None)
        _write_artifacts(session, job_id, None, outcome.files, refs)
        _write_scores(session, job_id, None, outcome.scores)
        again = {score.name for scores in outcome.run_scores.values() for score in scores}
        of_runs = delete(Metric).where(Metric.job_id == job_id, Metric.run_id.is_not(None))
        session.execute(of_runs.where(Metric.name.in_(again)))
        for run_id, scores in outcome.run_scores.items():
            _write_scores(session, job_id, run_id, scores)


def read_output(stores: Stores, run_id: uuid.UUID, role: str) -> bytes:
    """Return the content of the one file of a role that a run gave."""
    with stores.sessions() as session:
        query = select(Artifact.blob_sha256).where(Artifact.run_id == run_id, Artifact.role == role)
        return stores.blobs.read(session.scalars(query).one())


def read_outputs(stores: Stores, run_id: uuid.UUID, role: str) -> list[bytes]:
    """Return the content of the files of a role that a run gave, in the order of their names."""
    with stores.sessions() as session:
        named = select(Artifact.blob_sha256).where(Artifact.run_id == run_id, Artifact.role == role)
        return [stores.blobs.read(sha256) for sha256 in session.scalars(named.order_by(Artifact.name))]


def count_runs(session: Session, job: Job) -> None:
    """Bring the counters of a job up to date with its runs."""
    counts: dict[str, int] = dict(
        session.execute(select(Run.status, func.count()).where(Run.job_id == job.id).group_by(Run.status)).all()
    )
    job.total = sum(counts.values())
    job.done, job.failed = counts.get("done", 0), counts.get("failed", 0)


def _forget(session: Session, job_id: uuid.UUID, run_id: uuid.UUID | None) -> None:
    if run_id is not None:
        for children in (Segmentation, Reconstruction, ResultWord):
            session.execute(delete(children).where(children.run_id == run_id))
    for table in (Artifact, Metric):
        session.execute(delete(table).where(table.job_id == job_id, table.run_id.is_not_distinct_from(run_id)))


def _write_artifacts(
    session: Session,
    job_id: uuid.UUID,
    run_id: uuid.UUID | None,
    files: tuple[OutputFile, ...],
    refs: list[BlobRef],
) -> list[Artifact]:
    pairs = list(zip(files, refs, strict=True))
    name_blobs(session, [(ref, file.media_type) for file, ref in pairs])
    artifacts = [
        # With an id, so that what points to it need not wait until it is written.
        Artifact(id=uuid.uuid4(), job_id=job_id, run_id=run_id, role=file.role, name=file.name, blob_sha256=ref.sha256)
        for file, ref in pairs
    ]
    session.add_all(artifacts)
    return artifacts


def _write_scores(session: Session, job_id: uuid.UUID, run_id: uuid.UUID | None, scores: tuple[Score, ...]) -> None:
    session.add_all(
        Metric(
            job_id=job_id,
            run_id=run_id,
            name=score.name,
            label=score.label,
            value=score.value,
            low=score.low,
            high=score.high,
            unit=score.unit,
            detail=score.detail,
        )
        for score in scores
    )
