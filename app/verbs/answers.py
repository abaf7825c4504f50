"""Rows as answers: what every door shows of them."""

import uuid
from collections.abc import Iterable
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.schemas import (
    DECODING_NOTICE,
    NOTICE,
    RANDOM_NOTICE,
    ArtifactAnswer,
    DatasetAnswer,
    DecodedAnswer,
    JobAnswer,
    MetricAnswer,
    ModelAnswer,
    ResultAnswer,
    RunAnswer,
    ScanAnswer,
)
from voxelight.storage.queries import count_contents
from voxelight.storage.schema import Artifact, Dataset, Job, Metric, Model, Reconstruction, Run, Scan, Segmentation

R = TypeVar("R", Artifact, Metric, Segmentation, Reconstruction)


def answer_dataset(session: Session, dataset: Dataset) -> DatasetAnswer:
    """Show a data set."""
    subjects, scans = count_contents(session, dataset)
    columns = {name: getattr(dataset, name) for name in DatasetAnswer.model_fields if name not in ("subjects", "scans")}
    return DatasetAnswer(**columns, subjects=subjects, scans=scans)


def answer_scan(scan: Scan) -> ScanAnswer:
    """Show a scan."""
    session = scan.imaging_session
    return ScanAnswer(
        id=scan.id,
        dataset=session.subject.dataset.name,
        subject=session.subject.label,
        session=session.label,
        name=scan.name,
        kind=scan.kind,
        geometry=scan.geometry,
        facts=scan.facts,
        warnings=scan.warnings,
        deid_status=scan.deid_status,
        sha256=scan.blob_sha256,
        thumbnail_sha256=scan.thumbnail_sha256,
        size=scan.blob.size,
        created_at=scan.created_at,
    )


def answer_artifact(artifact: Artifact) -> ArtifactAnswer:
    """Show a file that came out."""
    return ArtifactAnswer(
        id=artifact.id,
        role=artifact.role,
        name=artifact.name,
        media_type=artifact.blob.media_type,
        size=artifact.blob.size,
        sha256=artifact.blob_sha256,
        url=f"/api/v1/artifacts/{artifact.id}",
    )


def answer_metric(metric: Metric) -> MetricAnswer:
    """Show a score."""
    return MetricAnswer(**{name: getattr(metric, name) for name in MetricAnswer.model_fields})


def answer_model(model: Model) -> ModelAnswer:
    """Show a model."""
    return ModelAnswer(**{name: getattr(model, name) for name in ModelAnswer.model_fields})


def answer_job(session: Session, job: Job) -> JobAnswer:
    """Show a job with what belongs to it as a whole."""
    named = {"dataset", "model", "simulated", "random_weights", "options", "metrics", "artifacts", "notice"}
    columns = {name: getattr(job, name) for name in JobAnswer.model_fields if name not in named}
    artifacts = session.scalars(select(Artifact).where(Artifact.job_id == job.id, Artifact.run_id.is_(None)))
    metrics = session.scalars(select(Metric).where(Metric.job_id == job.id, Metric.run_id.is_(None)))
    return JobAnswer(
        **columns,
        dataset=job.dataset.name,
        simulated=job.dataset.simulated,
        random_weights=is_random(job.model),
        model=job.model.name,
        options=job.params.get("options", {}),
        metrics=[answer_metric(metric) for metric in metrics],
        artifacts=[answer_artifact(artifact) for artifact in artifacts],
        notice=find_notice(job),
    )


def answer_run(run: Run) -> RunAnswer:
    """Show one item of a job."""
    named = {"job", "item", "subject", "scan"}
    columns = {name: getattr(run, name) for name in RunAnswer.model_fields if name not in named}
    return RunAnswer(**columns, job=run.job_id, item=run.item_key, subject=run.subject.label, scan=run.scan.name)


def answer_results(session: Session, runs: Iterable[Run]) -> list[ResultAnswer]:
    """Show what runs gave, with one question a table for all of them."""
    runs = list(runs)
    ids = [run.id for run in runs]
    artifacts = _by_run(session.scalars(select(Artifact).where(Artifact.run_id.in_(ids)).order_by(Artifact.role)))
    metrics = _by_run(session.scalars(select(Metric).where(Metric.run_id.in_(ids)).order_by(Metric.name)))
    maps = _by_run(session.scalars(select(Segmentation).where(Segmentation.run_id.in_(ids))))
    found = select(Reconstruction).where(Reconstruction.run_id.in_(ids))
    decoded = _by_run(session.scalars(found.order_by(Reconstruction.stimulus_id, Reconstruction.rank)))
    return [
        ResultAnswer(
            id=run.id,
            kind=run.job.kind,  # type: ignore[arg-type]  # a check constraint in all but name
            job=run.job_id,
            recipe=run.job.recipe,
            dataset=run.job.dataset.name,
            subject=run.subject.label,
            session=run.scan.imaging_session.label,
            scan=run.scan.name,
            item=run.item_key,
            model=run.job.model.name,
            weights_sha256=run.provenance.get("weights_sha256", run.job.model.weights_sha256),
            simulated=run.job.dataset.simulated,
            random_weights=is_random(run.job.model),
            finished_at=run.finished_at,  # type: ignore[arg-type]  # set with the status
            provenance=run.provenance,
            artifacts=[answer_artifact(artifact) for artifact in artifacts.get(run.id, [])],
            metrics=[answer_metric(metric) for metric in metrics.get(run.id, [])],
            labels=next((m.labels for m in maps.get(run.id, [])), {}),
            volumes_ml=next((m.volumes_ml for m in maps.get(run.id, [])), {}),
            stimuli=list(dict.fromkeys(each.stimulus_id for each in decoded.get(run.id, []))),
            decoded=[answer_decoded(each) for each in decoded.get(run.id, [])],
            notice=find_notice(run.job),
        )
        for run in runs
    ]


def answer_decoded(found: Reconstruction) -> DecodedAnswer:
    """Show what was decoded from the responses to one stimulus."""
    return DecodedAnswer(
        stimulus=found.stimulus_id,
        rank=found.rank,
        seed=found.seed,
        caption=found.caption,
        retrieved=found.retrieved,
        artifact=found.artifact_id,
    )


def is_random(model: Model) -> bool:
    """Whether a model has learnt nothing."""
    return bool(model.config.get("random_weights", False))


def find_notice(job: Job) -> str:
    """Return what must stand beside every result of this job."""
    if job.kind == "segment":
        return NOTICE
    return RANDOM_NOTICE if is_random(job.model) else DECODING_NOTICE


def _by_run(rows: Iterable[R]) -> dict[uuid.UUID, list[R]]:
    grouped: dict[uuid.UUID, list[R]] = {}
    for row in rows:
        if row.run_id is not None:
            grouped.setdefault(row.run_id, []).append(row)
    return grouped
