"""Write down what was asked of a finished job besides, and what it gave: once, in place of what was there before."""

import math
import uuid
from collections.abc import Collection

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from voxelight.storage.results import JobOutcome, Score
from voxelight.storage.schema import Action, Artifact, Metric, utc_now
from voxelight.storage.stores import Stores, name_blob


def record_action(stores: Stores, action_id: uuid.UUID, outcome: JobOutcome, roles: Collection[str]) -> None:
    """Store the files of an action beside those of its job, and its scores beside those of the runs.

    Parameters
    ----------
    stores : where to
    action_id : which
    outcome : files of the job, scores of runs; `scores` of the job as a whole stay what the job gave
    roles : of all files that actions of this kind give; older ones of these roles go
    """
    refs = [stores.blobs.put_bytes(file.content) for file in outcome.files]
    with stores.sessions.begin() as session:
        action = session.get_one(Action, action_id)
        older = delete(Artifact).where(Artifact.job_id == action.job_id, Artifact.run_id.is_(None))
        session.execute(older.where(Artifact.role.in_(roles)))
        for file, ref in zip(outcome.files, refs, strict=True):
            name_blob(session, ref, file.media_type)
            session.add(Artifact(job_id=action.job_id, role=file.role, name=file.name, blob_sha256=ref.sha256))
        _replace_scores(session, action, outcome.run_scores)
        action.status, action.finished_at, action.problem = "done", utc_now(), {}


def record_problem(stores: Stores, action_id: uuid.UUID, problem: dict[str, str]) -> None:
    """Keep why an action failed."""
    with stores.sessions.begin() as session:
        action = session.get_one(Action, action_id)
        action.status, action.finished_at, action.problem = "failed", utc_now(), problem


def _replace_scores(session: Session, action: Action, scores: dict[uuid.UUID, tuple[Score, ...]]) -> None:
    """Write scores of runs, marked as this action's; one that the run itself gave stays, and gets its controls."""
    own: dict[tuple[uuid.UUID | None, str, str], Metric] = {}
    for metric in session.scalars(select(Metric).where(Metric.job_id == action.job_id, Metric.run_id.is_not(None))):
        if metric.detail.get("from") == action.kind:
            session.delete(metric)
        else:
            own[metric.run_id, metric.name, metric.label] = metric
    session.flush()
    for run_id, found in scores.items():
        for score in found:
            there = own.get((run_id, score.name, score.label))
            if there is None:
                session.add(_row(action, run_id, score))
            elif math.isclose(there.value, score.value, rel_tol=1e-4, abs_tol=1e-6):
                there.detail = there.detail | score.detail


def _row(action: Action, run_id: uuid.UUID, score: Score) -> Metric:
    return Metric(
        job_id=action.job_id,
        run_id=run_id,
        name=score.name,
        label=score.label,
        value=score.value,
        low=score.low,
        high=score.high,
        unit=score.unit,
        detail=score.detail | {"from": action.kind},
    )
