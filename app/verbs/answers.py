"""Rows as answers: what every door shows of them."""

from sqlalchemy.orm import Session

from voxelight.app.schemas import (
    DECODING,
    DECODING_NOTICE,
    NOTICE,
    RANDOM_NOTICE,
    ArtifactAnswer,
    DatasetAnswer,
    MetricAnswer,
    ModelAnswer,
    ScanAnswer,
)
from voxelight.storage.queries import count_contents
from voxelight.storage.schema import Artifact, Dataset, Job, Metric, Model, Scan


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
        held=scan.held,
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


def is_random(model: Model) -> bool:
    """Whether a model has learnt nothing."""
    return bool(model.config.get("random_weights", False))


def find_notice(job: Job) -> str:
    """Return what must stand beside every result of this job."""
    if job.kind not in DECODING:
        return NOTICE
    return RANDOM_NOTICE if is_random(job.model) else DECODING_NOTICE
