"""One subject over time: what was segmented at each visit, and how much it changed."""

import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from voxelight.app.schemas import NOTICE
from voxelight.app.schemas_reviews import (
    FollowupAnswer,
    FollowupQuery,
    GrowthAnswer,
    SeriesAnswer,
    StructureAnswer,
    VisitAnswer,
)
from voxelight.medseg.followup import MinimalChange, Timepoint, follow
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.queries import find_dataset
from voxelight.storage.schema import Artifact, Correction, ImagingSession, Job, Metric, Run, Scan, Segmentation, Subject
from voxelight.storage.stores import Stores

_SPREAD = "spread of the networks"
_AS_SCANNED = (
    "Volumes are compared as they were scanned: nothing was registered, so another position, field of view or protocol "
    "can look like a change."
)
Found = tuple[Run, Segmentation]


class FollowUp:
    """Label maps of one subject, visit by visit."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def list_series(self, dataset: str) -> list[SeriesAnswer]:
        """Return what can be followed in a data set: each subject with each recipe, and the sessions that it has.

        Raises
        ------
        NotFound
            There is no such data set.
        """
        with self._stores.sessions() as session:
            row = find_dataset(session, dataset)
            places = session.execute(select_places(row.id)).all()
            labels = _find_labels(session, row.id) if places else {}
        grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
        for subject, recipe, visit in places:
            grouped[subject, recipe].append(visit)
        return [
            SeriesAnswer(subject=subject, recipe=recipe, sessions=sorted(visits, key=_in_order), labels=labels[recipe])
            for (subject, recipe), visits in sorted(grouped.items(), key=lambda each: _in_order(each[0][0]))
        ]

    def show(self, dataset: str, subject: str, query: FollowupQuery) -> FollowupAnswer:
        """Follow one subject over its sessions.

        Of each session the newest result counts, and of that result the newest correction, if a person drew one.

        Raises
        ------
        NotFound
            There is no such data set or subject, or the label is none of the recipe's.
        BadInput
            A day is none, or the days do not rise with the sessions.
        """
        days, stated = read_days(query.day), read_change(query)
        with self._stores.sessions() as session:
            row = find_dataset(session, dataset)
            if session.scalar(select(Subject.id).where(Subject.dataset_id == row.id, Subject.label == subject)) is None:
                raise NotFound(
                    f"no subject {subject!r} in data set {dataset!r}", "one that has scans", "Look at the scans."
                )
            chosen, recipe, warnings = choose_results(session.execute(select_results(row.id, subject)).all(), query)
            unknown = sorted(set(days) - {run.scan.imaging_session.label for run, _ in chosen})
            if unknown:
                raise BadInput(f"a day of session {unknown[0]!r}", "sessions that are followed", "Correct the name.")
            visits = _describe(session, chosen, days)
            labels = [label for label in visits if query.label in (None, label)]
            if query.label and not labels:
                raise NotFound(
                    f"no label {query.label!r}", f"one of {', '.join(visits) or 'none'}", "Correct the name."
                )
            structures = [_follow(label, visits[label], stated) for label in labels]
            return FollowupAnswer(
                dataset=dataset,
                subject=subject,
                recipe=recipe,
                simulated=row.simulated,
                structures=structures,
                interval=_say_interval(structures, query),
                warnings=[_AS_SCANNED, *warnings],
                notice=NOTICE,
            )


def select_places(dataset_id: uuid.UUID) -> Select[str, str, str]:
    """Return the question for each subject, recipe and session that a data set has label maps of, once each."""
    return (
        select(Subject.label, Job.recipe, ImagingSession.label)
        .join(Run, Run.subject_id == Subject.id)
        .join(Segmentation, Segmentation.run_id == Run.id)
        .join(Job, Run.job_id == Job.id)
        .join(Scan, Run.scan_id == Scan.id)
        .join(ImagingSession, Scan.imaging_session_id == ImagingSession.id)
        .where(Subject.dataset_id == dataset_id, Run.status == "done")
        .distinct()
    )


def _find_labels(session: Session, dataset_id: uuid.UUID) -> dict[str, list[str]]:
    """Return the names of labels by recipe; all label maps of one job have the same."""
    names: dict[str, dict[str, None]] = defaultdict(dict)
    jobs = select(Job.id, Job.recipe).where(Job.dataset_id == dataset_id).order_by(Job.created_at, Job.id)
    for job, recipe in session.execute(jobs).all():
        one = select(Segmentation.labels).join(Run, Segmentation.run_id == Run.id).where(Run.job_id == job)
        labels = session.scalar(one.where(Run.status == "done").limit(1)) or {}
        names[recipe].update(dict.fromkeys(str(name) for name in labels.values()))
    return {recipe: list(found) for recipe, found in names.items()}


def select_results(dataset_id: uuid.UUID, subject: str | None = None) -> Select[Run, Segmentation]:
    """Return the question for what was segmented in a data set, the oldest first."""
    query = (
        select(Run, Segmentation)
        .join(Segmentation, Segmentation.run_id == Run.id)
        .join(Run.subject)
        .where(Subject.dataset_id == dataset_id, Run.status == "done")
        .order_by(Run.finished_at, Run.id)
        .options(
            joinedload(Run.job),
            joinedload(Run.subject),
            joinedload(Run.scan).joinedload(Scan.imaging_session),
        )
    )
    return query.where(Subject.label == subject) if subject else query


def choose_results(rows: Sequence[Found], query: FollowupQuery) -> tuple[list[Found], str, list[str]]:
    """Return the newest result of each session in order, the recipe, and what should be known about the choice."""
    fitting = [
        (run, found)
        for run, found in rows
        if query.recipe in (None, run.job.recipe) and (query.scan is None or fnmatchcase(run.scan.name, query.scan))
    ]
    if not fitting:
        return [], query.recipe or "", ["Nothing that fits was segmented yet."]
    recipe = fitting[-1][0].job.recipe
    sessions: dict[str, list[Found]] = defaultdict(list)
    for run, found in fitting:
        if run.job.recipe == recipe:
            sessions[run.scan.imaging_session.label].append((run, found))
    chosen = [sessions[label][-1] for label in sorted(sessions, key=_in_order)]
    warnings = [
        f"Session {run.scan.imaging_session.label} has {count} segmented scans; {run.scan.name} has the newest result "
        "and counts. Name the scans by a pattern to choose others."
        for run, _ in chosen
        if (count := len({other.scan_id for other, _ in sessions[run.scan.imaging_session.label]})) > 1
    ]
    if len({run.provenance.get("weights_sha256") for run, _ in chosen}) > 1:
        warnings.append("The sessions were segmented with different weights: segment them again by one job.")
    return chosen, recipe, warnings


def _describe(session: Session, chosen: Sequence[Found], days: dict[str, float]) -> dict[str, list[VisitAnswer]]:
    ids = [run.id for run, _ in chosen]
    metrics = {
        (metric.run_id, metric.label): metric
        for metric in session.scalars(select(Metric).where(Metric.run_id.in_(ids), Metric.name == "volume"))
    }
    drawn = select(Correction).where(Correction.run_id.in_(ids)).order_by(Correction.created_at)
    corrections = {row.run_id: row for row in session.scalars(drawn)}
    overlays = select(Artifact).where(Artifact.run_id.in_(ids), Artifact.role == "overlay")
    pictures = {row.run_id: f"/api/v1/artifacts/{row.id}" for row in session.scalars(overlays)}
    visits: dict[str, list[VisitAnswer]] = defaultdict(list)
    for run, found in chosen:
        place = run.scan.imaging_session.label
        correction = corrections.get(run.id)
        volumes = correction.volumes_ml if correction else found.volumes_ml
        for label in found.labels.values():
            metric = None if correction else metrics.get((run.id, label))
            known = metric is not None and metric.low is not None and metric.high is not None
            visits[label].append(
                VisitAnswer(
                    session=place,
                    day=days.get(place),
                    run=run.id,
                    scan=run.scan.name,
                    volume_ml=volumes.get(label, 0.0),
                    low_ml=metric.low if metric and known else None,
                    high_ml=metric.high if metric and known else None,
                    spread=str(metric.detail.get("interval", _SPREAD)) if metric and known else "",
                    corrected_by=correction.author if correction else "",
                    overlay=pictures.get(run.id),
                )
            )
    return visits


def _follow(label: str, visits: list[VisitAnswer], stated: MinimalChange | None) -> StructureAnswer:
    points = [Timepoint(each.session, each.volume_ml, each.low_ml, each.high_ml, each.day) for each in visits]
    growth = [GrowthAnswer(**asdict(each)) for each in follow(points, stated)]
    return StructureAnswer(label=label, visits=visits, growth=growth)


def read_days(texts: Iterable[str]) -> dict[str, float]:
    """Return the day of each session that was stated.

    Raises
    ------
    BadInput
        A text is not SESSION:DAY.
    """
    days = {}
    for text in texts:
        found = re.fullmatch(r"(.{1,120}):(-?\d{1,7}(?:\.\d{1,6})?)", text)
        if found is None:
            raise BadInput(f"the day {text[:80]!r}", "SESSION:DAY, 02:180 for one", "Correct it.")
        days[found[1]] = float(found[2])
    return days


def read_change(query: FollowupQuery) -> MinimalChange | None:
    """Return the minimal change that was stated, if any."""
    if query.minimal_change_ml is None and query.minimal_change_percent is None:
        return None
    return MinimalChange(query.minimal_change_ml, query.minimal_change_percent)


def _say_interval(structures: Sequence[StructureAnswer], query: FollowupQuery) -> str:
    sources = {growth.source for structure in structures for growth in structure.growth}
    said = []
    if "spread" in sources:
        spreads = {visit.spread for structure in structures for visit in structure.visits if visit.spread}
        said.append(
            f"95 % from what was stored ({', '.join(sorted(spreads))}); how a second scan would differ is not in it."
        )
    if "stated" in sources:
        given = [f"{query.minimal_change_ml:g} ml"] if query.minimal_change_ml is not None else []
        given += [f"{query.minimal_change_percent:g} %"] if query.minimal_change_percent is not None else []
        said.append(f"Plus or minus the minimal change between scan and rescan that was stated: {' or '.join(given)}.")
    if "none" in sources:
        said.append(
            "None: no spread was stored and no minimal change stated, so no change is flagged. State the minimal "
            "detectable change of your scanner and protocol."
        )
    return " ".join(said)


def _in_order(label: str) -> list[tuple[int, str]]:
    """Order labels as people do, 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", label) if part]
