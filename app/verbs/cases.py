"""Results as they are reviewed: their pictures, their numbers, and what stands apart from the rest of the job."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from voxelight.app.pipelines.outputs import file_stem
from voxelight.app.schemas_reviews import CaseAnswer, CasePicture, OutlierAnswer, ReviewAnswer
from voxelight.app.verbs.answers import answer_metric, find_notice, is_random
from voxelight.medseg.outliers import FAR, robust_z
from voxelight.storage.schema import Artifact, Correction, Metric, Reconstruction, Review, Run

_MOST_PICTURES = 24  # of one case on the page; the contact sheet is told the same
R = TypeVar("R", Artifact, Metric, Reconstruction, Review)
Measure = tuple[str, str]


def answer_review(review: Review) -> ReviewAnswer:
    """Show what a reviewer thinks of a result."""
    columns = {name: getattr(review, name) for name in ReviewAnswer.model_fields if name != "run"}
    return ReviewAnswer(run=review.run_id, **columns)


def answer_cases(session: Session, job_id: uuid.UUID, runs: Sequence[Run], reviewer: str | None) -> list[CaseAnswer]:
    """Show results of one job as they are reviewed, with one question a table for all of them."""
    ids = [run.id for run in runs]
    artifacts = _by_run(session.scalars(select(Artifact).where(Artifact.run_id.in_(ids)).order_by(Artifact.name)))
    metrics = _by_run(session.scalars(select(Metric).where(Metric.run_id.in_(ids)).order_by(Metric.name, Metric.label)))
    decoded = _by_run(
        session.scalars(
            select(Reconstruction)
            .where(Reconstruction.run_id.in_(ids))
            .order_by(Reconstruction.stimulus_id, Reconstruction.rank)
        )
    )
    reviews = _by_run(session.scalars(select(Review).where(Review.run_id.in_(ids)).order_by(Review.created_at)))
    drawn = select(Correction.run_id, func.count()).where(Correction.run_id.in_(ids)).group_by(Correction.run_id)
    corrections: dict[uuid.UUID, int] = dict(session.execute(drawn).all())
    outliers = find_outliers(session, job_id)
    cases = []
    for run in runs:
        own = next((each for each in reviews[run.id] if each.reviewer == reviewer), None)
        others = [answer_review(each) for each in reviews[run.id] if each is not own]
        cases.append(
            CaseAnswer(
                run=run.id,
                job=run.job_id,
                position=run.position,
                item=run.item_key,
                kind=run.job.kind,  # type: ignore[arg-type]  # one of three
                dataset=run.job.dataset.name,
                subject=run.subject.label,
                session=run.scan.imaging_session.label,
                scan=run.scan.name,
                simulated=run.job.dataset.simulated,
                random_weights=is_random(run.job.model),
                finished_at=run.finished_at,  # type: ignore[arg-type]  # set with the status
                pictures=_show(run, artifacts[run.id], decoded[run.id]),
                captions=list(dict.fromkeys(each.caption for each in decoded[run.id] if each.caption)),
                metrics=[answer_metric(metric) for metric in metrics[run.id]],
                outliers=outliers.get(run.id, []),
                corrections=corrections.get(run.id, 0),
                own=answer_review(own) if own else None,
                others=others if own else [],
                hidden=0 if own else len(others),
                notice=find_notice(run.job),
            )
        )
    return cases


def read_measures(session: Session, job_id: uuid.UUID) -> dict[Measure, list[tuple[Run, Metric]]]:
    """Return every number that the done runs of a job share, by name and label.

    Scores of decoded stimuli carry the stimulus as their label; they are gathered by name alone.
    """
    rows = session.execute(
        select(Run, Metric)
        .join(Metric, Metric.run_id == Run.id)
        .where(Run.job_id == job_id, Run.status == "done")
        .order_by(Metric.name, Metric.label, Run.position)
    ).all()
    grouped: dict[Measure, list[tuple[Run, Metric]]] = defaultdict(list)
    for run, metric in rows:
        label = metric.label if run.job.kind == "segment" else ""
        grouped[metric.name, label].append((run, metric))
    return grouped


def find_outliers(session: Session, job_id: uuid.UUID) -> dict[uuid.UUID, list[OutlierAnswer]]:
    """Return what lies far from the other cases of a job, by run."""
    found: dict[uuid.UUID, list[OutlierAnswer]] = defaultdict(list)
    for (name, _), rows in read_measures(session, job_id).items():
        values = [metric.value for _, metric in rows]
        median = float(np.median(values))
        for (run, metric), z in zip(rows, robust_z(values), strict=True):
            if abs(z) > FAR:
                found[run.id].append(
                    OutlierAnswer(
                        name=name, label=metric.label, value=metric.value, unit=metric.unit, median=median, z=float(z)
                    )
                )
    return found


def _show(run: Run, artifacts: list[Artifact], decoded: list[Reconstruction]) -> list[CasePicture]:
    if run.job.kind == "segment":
        sheet = f"/api/v1/results/{run.id}/sheet"
        return [CasePicture(title="Contact sheet", url=sheet, alt=f"Labels over {run.scan.name}, cut by cut")]
    by_id = {artifact.id: artifact for artifact in artifacts}
    several = len({each.stimulus_id for each in decoded}) > 1
    stimuli = [artifact for artifact in artifacts if artifact.role == "stimulus"]
    pictures = []
    for stimulus in dict.fromkeys(each.stimulus_id for each in decoded):
        of = f" {stimulus}" if several else ""
        seen = next((each for each in stimuli if each.name == f"{file_stem(stimulus)}_stimulus.png"), None)
        if seen is not None:
            pictures.append(_picture(f"Seen{of}", seen, f"Stimulus {stimulus}"))
        samples = [each for each in decoded if each.stimulus_id == stimulus]
        for each in samples:
            artifact = by_id[each.artifact_id]
            if artifact.role == "reconstruction":
                number = f" {each.rank + 1}, seed {each.seed}" if len(samples) > 1 else ""
                pictures.append(_picture(f"Model estimate{number}", artifact, f"Estimate of {stimulus}"))
    return pictures[:_MOST_PICTURES]


def _picture(title: str, artifact: Artifact, alt: str) -> CasePicture:
    return CasePicture(title=title, url=f"/api/v1/artifacts/{artifact.id}", alt=alt, small=True)


def _by_run(rows: Iterable[R]) -> "defaultdict[Any, list[R]]":
    grouped: defaultdict[Any, list[R]] = defaultdict(list)
    for row in rows:
        grouped[row.run_id].append(row)
    return grouped
