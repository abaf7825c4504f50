"""Rows of jobs as answers, with as many questions for a page of them as for one."""

import uuid
from collections.abc import Iterable, Sequence
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from voxelight.app.schemas import JobAnswer, RunAnswer
from voxelight.app.schemas_jobs import LogAnswer
from voxelight.app.verbs.answers import answer_artifact, answer_metric, find_notice, is_random
from voxelight.app.verbs.progress import ACTIVE, count_left, find_paces, find_places
from voxelight.storage.joblog import find_place
from voxelight.storage.leases import find_problems
from voxelight.storage.schema import Artifact, Job, JobEvent, Metric, Run

R = TypeVar("R", Artifact, Metric)

_OPEN = ("pending", "running")
_NAMED = (
    *("dataset", "model", "simulated", "random_weights", "options", "notes"),
    *("place", "seconds_left", "metrics", "artifacts", "notice"),
)


def answer_jobs(session: Session, jobs: Sequence[Job]) -> list[JobAnswer]:
    """Show jobs with what belongs to each as a whole."""
    ids = [job.id for job in jobs if job.started_at is not None]  # what never began gave nothing
    whole = select(Artifact).where(Artifact.job_id.in_(ids), Artifact.run_id.is_(None)).order_by(Artifact.role)
    artifacts = _by_job(session.scalars(whole.options(joinedload(Artifact.blob)))) if ids else {}
    scores = select(Metric).where(Metric.job_id.in_(ids), Metric.run_id.is_(None)).order_by(Metric.created_at)
    metrics = _by_job(session.scalars(scores)) if ids else {}
    active = [job.id for job in jobs if job.status in ACTIVE]
    problems = find_problems(session, active) if active else {}
    places, paces, left = find_places(session, jobs), find_paces(session, jobs), count_left(session, jobs)
    return [
        JobAnswer(
            **{name: getattr(job, name) for name in JobAnswer.model_fields if name not in _NAMED},
            dataset=job.dataset.name,
            simulated=job.dataset.simulated,
            random_weights=is_random(job.model),
            model=job.model.name,
            options=job.params.get("options", {}),
            notes=[*job.params.get("notes", []), *([problems[job.id]] if job.id in problems else [])],
            place=places.get(job.id),
            seconds_left=paces[job.id] * left.get(job.id, 0) if job.id in paces else None,
            metrics=[answer_metric(metric) for metric in metrics.get(job.id, [])],
            artifacts=[answer_artifact(artifact) for artifact in artifacts.get(job.id, [])],
            notice=find_notice(job),
        )
        for job in jobs
    ]


def answer_job(session: Session, job: Job) -> JobAnswer:
    """Show one job."""
    return answer_jobs(session, [job])[0]


def answer_runs(session: Session, job: Job, runs: Sequence[Run]) -> list[RunAnswer]:
    """Show items of one job that stand beside each other, each with what is left until it is done."""
    pace = find_paces(session, [job]).get(job.id)
    ahead = 0
    if pace is not None and runs:
        before = select(func.count()).where(Run.job_id == job.id, Run.status.in_(_OPEN))
        ahead = session.scalar(before.where(Run.position < runs[0].position)) or 0
    answers = []
    for run in runs:
        waits = run.status in _OPEN
        ahead += waits
        answers.append(_answer_run(run, pace * ahead if waits and pace is not None else None))
    return answers


def answer_line(event: JobEvent) -> LogAnswer:
    """Show a line of a job's log."""
    return LogAnswer(
        at=event.created_at,
        level=event.level,  # type: ignore[arg-type]  # written by one function
        message=event.message,
        run=event.run_id,
        cursor=find_place(event),
    )


def _answer_run(run: Run, seconds_left: float | None) -> RunAnswer:
    named = {"job", "item", "subject", "scan", "seconds_left"}
    columns = {name: getattr(run, name) for name in RunAnswer.model_fields if name not in named}
    return RunAnswer(
        **columns,
        job=run.job_id,
        item=run.item_key,
        subject=run.subject.label,
        scan=run.scan.name,
        seconds_left=seconds_left,
    )


def _by_job(rows: Iterable[R]) -> dict[uuid.UUID, list[R]]:
    grouped: dict[uuid.UUID, list[R]] = {}
    for row in rows:
        grouped.setdefault(row.job_id, []).append(row)
    return grouped
