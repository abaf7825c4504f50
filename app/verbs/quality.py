"""A job as a whole under quality control: its numbers side by side, and whether two reviewers agree."""

import math
import uuid
from itertools import groupby

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from voxelight.app.schemas_reviews import (
    AgreementAnswer,
    CaseDice,
    DisagreementAnswer,
    GroupAnswer,
    LabelDice,
    MeasureAnswer,
    MeasuredValue,
    Verdict,
)
from voxelight.app.verbs.answers import find_notice
from voxelight.app.verbs.cases import read_measures
from voxelight.medseg.agreement import Agreement, cohen_kappa
from voxelight.medseg.evaluate import dice, mean_by_person
from voxelight.medseg.outliers import FAR, FEWEST, robust_z
from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Artifact, Correction, Job, Metric, Review, Run, Segmentation
from voxelight.storage.stores import Stores

_WORDS: tuple[Verdict, ...] = ("accept", "unsure", "reject")


class Quality:
    """Numbers and views over all results of a job."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def group(self, job_id: uuid.UUID) -> GroupAnswer:
        """Put the numbers of all cases of a job side by side, and mark those that stand apart.

        Raises
        ------
        NotFound
            There is no such job.
        """
        with self._stores.sessions() as session:
            job = find_row(session, Job, job_id)
            done = Run.job_id == job_id, Run.status == "done"
            said = select(Review.verdict, func.count()).join(Run, Run.id == Review.run_id).where(*done)
            return GroupAnswer(
                job=job.id,
                recipe=job.recipe,
                dataset=job.dataset.name,
                kind=job.kind,  # type: ignore[arg-type]  # one of three
                simulated=job.dataset.simulated,
                cases=session.scalar(select(func.count()).select_from(Run).where(*done)) or 0,
                fewest=FEWEST,
                far=FAR,
                measures=[_measure(*key, rows) for key, rows in read_measures(session, job_id).items()],
                verdicts=dict.fromkeys(_WORDS, 0) | dict(session.execute(said.group_by(Review.verdict)).all()),
                notice=find_notice(job),
            )

    def agree(self, job_id: uuid.UUID, first: str, second: str) -> AgreementAnswer:
        """Compare two reviewers on the results of a job that both have reviewed.

        Raises
        ------
        NotFound
            There is no such job.
        BadInput
            Both names are the same.
        """
        if first == second:
            raise BadInput(f"{first!r} twice", "two reviewers", "Choose another second reviewer.")
        with self._stores.sessions() as session:
            job = find_row(session, Job, job_id)
            pairs = _find_pairs(session, job_id, first, second)
            words = [(mine.verdict, theirs.verdict) for _, mine, theirs in pairs]
            found = cohen_kappa(*zip(*words, strict=True), _WORDS) if words else None  # type: ignore[call-arg]
            cases = list(self._compare_corrections(session, job_id, first, second))
            return AgreementAnswer(
                job=job_id,
                first=first,
                second=second,
                items=len(pairs),
                **_say(found),
                words=list(_WORDS),
                table=[list(row) for row in found.table] if found else [[0] * len(_WORDS) for _ in _WORDS],
                revised=sum(_was_revised(mine, theirs) for _, mine, theirs in pairs),
                differ=[
                    DisagreementAnswer.model_validate(
                        {"run": run.id, "item": run.item_key, "first": mine.verdict, "second": theirs.verdict}
                    )
                    for run, mine, theirs in pairs
                    if mine.verdict != theirs.verdict
                ],
                corrections=cases,
                dice=_summarise(cases),
                notice=find_notice(job),
            )

    def _compare_corrections(self, session: Session, job_id: uuid.UUID, first: str, second: str) -> list[CaseDice]:
        """Return the Dice of the newest corrections of two authors, for each result and label that both drew."""
        newest: dict[uuid.UUID, dict[str, Correction]] = {}
        rows = session.scalars(
            select(Correction)
            .join(Run, Run.id == Correction.run_id)
            .where(Run.job_id == job_id, Correction.author.in_((first, second)))
            .order_by(Correction.created_at)
        )
        for row in rows:
            newest.setdefault(row.run_id, {})[row.author] = row
        found = []
        for run_id, drawn in newest.items():
            if len(drawn) == 2:
                found += self._compare(session, run_id, drawn[first].artifact, drawn[second].artifact)
        return found

    def _compare(self, session: Session, run_id: uuid.UUID, ours: Artifact, theirs: Artifact) -> list[CaseDice]:
        from voxelight.storage.formats.nifti import read_label_map

        run = find_row(session, Run, run_id)
        stored = session.scalars(select(Segmentation).where(Segmentation.run_id == run_id)).one()
        names = {int(number): name for number, name in stored.labels.items()}

        def read(artifact: Artifact) -> LabelMap:
            with self._stores.blobs.local_file(artifact.blob_sha256, artifact.name) as path:
                return read_label_map(path, names)

        a, b = read(ours).array, read(theirs).array
        scores = ((name, dice(a, b, number)) for number, name in names.items())
        return [
            CaseDice(run=run_id, item=run.item_key, subject=run.subject.label, label=name, dice=score)
            for name, score in scores
            if not math.isnan(score)
        ]


def _measure(name: str, label: str, rows: list[tuple[Run, Metric]]) -> MeasureAnswer:
    values = np.array([metric.value for _, metric in rows])
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return MeasureAnswer(
        name=name,
        label=label,
        unit=rows[0][1].unit,
        median=float(median),
        low=float(low),
        high=float(high),
        values=[
            MeasuredValue(run=run.id, item=run.item_key, value=metric.value, z=float(z), outlier=bool(abs(z) > FAR))
            for (run, metric), z in zip(rows, robust_z(values.tolist()), strict=True)
        ],
    )


def _find_pairs(session: Session, job_id: uuid.UUID, first: str, second: str) -> list[tuple[Run, Review, Review]]:
    rows = session.execute(
        select(Run, Review)
        .join(Review, Review.run_id == Run.id)
        .where(Run.job_id == job_id, Run.status == "done", Review.reviewer.in_((first, second)))
        .order_by(Run.position)
    ).all()
    pairs = []
    for run, group in groupby(rows, key=lambda row: row[0]):
        views = {review.reviewer: review for _, review in group}
        if len(views) == 2:
            pairs.append((run, views[first], views[second]))
    return pairs


def _was_revised(mine: Review, theirs: Review) -> bool:
    """Whether one saved again once the other's view could be seen."""
    both = max(mine.created_at, theirs.created_at)
    return any(review.version > 1 and review.updated_at > both for review in (mine, theirs))


def _say(found: Agreement | None) -> dict[str, float | None]:
    names = ("kappa", "low", "high", "observed", "expected")
    values = {name: getattr(found, name) if found else None for name in names}
    return {name: None if value is None or math.isnan(value) else value for name, value in values.items()}


def _summarise(cases: list[CaseDice]) -> list[LabelDice]:
    summary = []
    for label in dict.fromkeys(case.label for case in cases):
        scores = {str(case.run): case.dice for case in cases if case.label == label}
        person_of = {str(case.run): case.subject for case in cases}
        mean = mean_by_person(scores, person_of, seed=0)
        summary.append(
            LabelDice(
                label=label, dice=mean.estimate, low=mean.low, high=mean.high, cases=len(scores), subjects=mean.persons
            )
        )
    return summary
