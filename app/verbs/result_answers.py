"""Results as answers, whole or in part, with one question a table for all of them."""

import uuid
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from voxelight.app.schemas import (
    DECODING,
    DECODING_NOTICE,
    NOTICE,
    RANDOM_NOTICE,
    ArtifactAnswer,
    DecodedAnswer,
    MetricAnswer,
    ResultAnswer,
)
from voxelight.storage.schema import (
    Artifact,
    Blob,
    Dataset,
    ImagingSession,
    Job,
    Metric,
    Model,
    Reconstruction,
    Run,
    Scan,
    Segmentation,
    Subject,
)

FIELDS = frozenset(ResultAnswer.model_fields)
Rows = Select[*tuple[Any, ...]]
Grouped = dict[uuid.UUID, list[Any]]


def answer_results(session: Session, run_ids: Sequence[uuid.UUID]) -> list[ResultAnswer]:
    """Show what runs gave, in the order of their ids."""
    return [ResultAnswer(**fields) for fields in pick_results(session, run_ids, FIELDS)]


def pick_results(session: Session, run_ids: Sequence[uuid.UUID], fields: Collection[str]) -> list[dict[str, Any]]:
    """Return some of the fields of a `ResultAnswer` for each run; what they do not need is not read."""
    parts: dict[str, Grouped] = {}
    for part, (needed_by, query) in _PARTS.items():
        if needed_by & set(fields):
            parts[part] = _group(session, query, run_ids)
    rows = {row.id: row for row in session.execute(_RUNS.where(Run.id.in_(run_ids)))}
    found = []
    for run_id in run_ids:
        if run_id in rows:  # what was deleted meanwhile is left out
            row = rows[run_id]
            found.append({name: _FIELDS[name](row, parts) for name in fields})
    return found


def _group(session: Session, query: Rows, run_ids: Sequence[uuid.UUID]) -> Grouped:
    grouped: Grouped = {}
    run_id = query.selected_columns[0]
    for row in session.execute(query.where(run_id.in_(run_ids))):
        grouped.setdefault(row[0], []).append(row)
    return grouped


_RUNS = (
    select(
        Run.id,
        Run.item_key,
        Run.finished_at,
        Run.provenance,
        Job.id.label("job"),
        Job.kind,
        Job.recipe,
        Dataset.name.label("dataset"),
        Dataset.simulated,
        Model.name.label("model"),
        Model.weights_sha256,
        Model.config,
        Subject.label.label("subject"),
        ImagingSession.label.label("session"),
        Scan.name.label("scan"),
    )
    .join(Run.job)
    .join(Job.dataset)
    .join(Job.model)
    .join(Run.subject)
    .join(Run.scan)
    .join(Scan.imaging_session)
)
_PARTS: dict[str, tuple[set[str], Rows]] = {
    "artifacts": (
        {"artifacts"},
        select(
            Artifact.run_id,
            Artifact.id,
            Artifact.role,
            Artifact.name,
            Blob.media_type,
            Blob.size,
            Artifact.blob_sha256.label("sha256"),
        )
        .join(Artifact.blob)
        .order_by(Artifact.role, Artifact.name),
    ),
    "metrics": (
        {"metrics"},
        select(Metric.run_id, *(getattr(Metric, name) for name in MetricAnswer.model_fields)).order_by(
            Metric.name, Metric.label
        ),
    ),
    "maps": (
        {"labels", "volumes_ml"},
        select(Segmentation.run_id, Segmentation.labels, Segmentation.volumes_ml),
    ),
    "decoded": (
        {"stimuli", "decoded"},
        select(
            Reconstruction.run_id,
            Reconstruction.stimulus_id.label("stimulus"),
            Reconstruction.rank,
            Reconstruction.seed,
            Reconstruction.caption,
            Reconstruction.retrieved,
            Reconstruction.artifact_id.label("artifact"),
        ).order_by(Reconstruction.stimulus_id, Reconstruction.rank),
    ),
}


def _list_artifacts(row: Any, parts: dict[str, Grouped]) -> list[ArtifactAnswer]:
    return [
        ArtifactAnswer(
            id=found.id,
            role=found.role,
            name=found.name,
            media_type=found.media_type,
            size=found.size,
            sha256=found.sha256,
            url=f"/api/v1/artifacts/{found.id}",
        )
        for found in parts["artifacts"].get(row.id, [])
    ]


def _list_metrics(row: Any, parts: dict[str, Grouped]) -> list[MetricAnswer]:
    found = parts["metrics"].get(row.id, [])
    return [MetricAnswer(**{name: getattr(each, name) for name in MetricAnswer.model_fields}) for each in found]


def _list_decoded(row: Any, parts: dict[str, Grouped]) -> list[DecodedAnswer]:
    found = parts["decoded"].get(row.id, [])
    return [DecodedAnswer(**{name: getattr(each, name) for name in DecodedAnswer.model_fields}) for each in found]


def _list_stimuli(row: Any, parts: dict[str, Grouped]) -> list[str]:
    return list(dict.fromkeys(each.stimulus for each in parts["decoded"].get(row.id, [])))


def _find_notice(row: Any, _: dict[str, Grouped]) -> str:
    if row.kind not in DECODING:
        return NOTICE
    return RANDOM_NOTICE if row.config.get("random_weights") else DECODING_NOTICE


_SIMPLE = ("id", "kind", "job", "recipe", "dataset", "subject", "session", "scan", "model", "simulated")
_FIELDS: dict[str, Any] = {
    **{name: lambda row, _, name=name: getattr(row, name) for name in (*_SIMPLE, "finished_at", "provenance")},
    "item": lambda row, _: row.item_key,
    "weights_sha256": lambda row, _: row.provenance.get("weights_sha256", row.weights_sha256),
    "random_weights": lambda row, _: bool(row.config.get("random_weights", False)),
    "artifacts": _list_artifacts,
    "metrics": _list_metrics,
    "labels": lambda row, parts: next((found.labels for found in parts["maps"].get(row.id, [])), {}),
    "volumes_ml": lambda row, parts: next((found.volumes_ml for found in parts["maps"].get(row.id, [])), {}),
    "stimuli": _list_stimuli,
    "decoded": _list_decoded,
    "notice": _find_notice,
}
