"""Conditions on results, as what a database can ask."""

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, not_, select, true
from sqlalchemy.orm import InstrumentedAttribute, aliased

from voxelight.storage.schema import (
    Dataset,
    ImagingSession,
    Job,
    Metric,
    Model,
    ResultWord,
    Review,
    Run,
    Scan,
    Subject,
)
from voxelight.storage.words import LAST_LETTER

UNREVIEWED = "none"
Rows = Select[*tuple[Any, ...]]


@dataclass(frozen=True)
class MetricRange:
    """Values of a metric, both ends included; `label` None: of any label, `low` or `high` None: without that end."""

    name: str
    label: str | None = None
    low: float | None = None
    high: float | None = None

    def fits(self, table: Any = Metric, of_run: Any = None) -> list[ColumnElement[bool]]:
        """Return what holds for rows of the metric within the range, of one run where its id is given."""
        held = [table.run_id.is_not(None) if of_run is None else table.run_id == of_run, table.name == self.name]
        # Among the few values of one run the index of all values would only mislead; a sum has none.
        value = table.value if of_run is None else table.value + 0.0
        if self.label is not None:
            held.append(table.label == self.label)
        if self.low is not None:
            held.append(value >= self.low)
        if self.high is not None:
            held.append(value <= self.high)
        return held


@dataclass(frozen=True, eq=False)
class Condition:
    """A condition that an index answers by itself.

    Parameters
    ----------
    found_by : ids of the runs that meet it
    held : what holds for such a run, given the column of its id
    metric : the range, where it is one
    """

    found_by: Rows
    held: Callable[[Any], ColumnElement[bool]]
    metric: MetricRange | None = None


@dataclass(frozen=True)
class Wanted:
    """Which results: every condition that is set must hold; `scan` is a name, or a pattern with `*`; None: any."""

    dataset: str | None = None
    subject: str | None = None
    session: str | None = None
    scan: str | None = None
    model: str | None = None
    recipe: str | None = None
    kind: str | None = None
    job: uuid.UUID | None = None
    simulated: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    verdict: str | None = None
    metrics: tuple[MetricRange, ...] = ()
    words: frozenset[str] = frozenset()
    projects: frozenset[str] | None = None

    @cached_property
    def jobs(self) -> Select[uuid.UUID] | None:
        """Jobs whose results are wanted; None: all."""
        asked = {
            Dataset.name: self.dataset,
            Dataset.simulated: self.simulated,
            Model.name: self.model,
            Job.recipe: self.recipe,
            Job.kind: self.kind,
            Job.id: self.job,
        }
        held = [column == value for column, value in asked.items() if value is not None]
        if self.projects is not None:
            held.append(Dataset.project.in_(sorted(self.projects)))
        return select(Job.id).join(Job.dataset).join(Job.model).where(*held) if held else None

    @cached_property
    def subjects(self) -> Select[uuid.UUID] | None:
        """Subjects that are wanted; None: all."""
        if self.subject is None:
            return None
        found = select(Subject.id).where(Subject.label == self.subject)
        return found.join(Subject.dataset).where(Dataset.name == self.dataset) if self.dataset else found

    @cached_property
    def scans(self) -> Select[uuid.UUID] | None:
        """Scans that are wanted; None: all."""
        if self.session is None and self.scan is None:
            return None
        held = [] if self.scan is None else [_match(Scan.name, self.scan)]
        asked = {ImagingSession.label: self.session, Subject.label: self.subject, Dataset.name: self.dataset}
        held += [column == value for column, value in asked.items() if value is not None]
        of_whom = select(Scan.id).join(Scan.imaging_session).join(ImagingSession.subject).join(Subject.dataset)
        return of_whom.where(*held)

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """What is asked beside jobs and times."""
        found: list[Condition] = []
        if (scans := self.scans) is not None:  # of the subjects that are wanted
            of_scan = scans.where(Scan.id == Run.scan_id).correlate(Run).exists()
            found.append(Condition(_find(Run.id, Run.scan_id.in_(scans)), lambda _: of_scan))
        elif (subjects := self.subjects) is not None:
            of_subject = Run.subject_id.in_(subjects)
            found.append(Condition(_find(Run.id, of_subject), lambda _: of_subject))
        found += [
            Condition(_find(Metric.run_id, *metric.fits()), partial(_score_fits, metric), metric)
            for metric in self.metrics
        ]
        if self.verdict not in (None, UNREVIEWED):
            reviewed = Review.verdict == self.verdict
            found.append(Condition(_find(Review.run_id, reviewed), partial(_reviewed, reviewed)))
        found += [
            Condition(_find(ResultWord.run_id, *_begins(word, ResultWord.word)), partial(_says, word))
            for word in self.words
        ]
        return tuple(found)

    @cached_property
    def in_jobs(self) -> Condition:
        """The jobs as a condition."""
        of_jobs = Run.job_id.in_(self.jobs) if self.jobs is not None else true()
        return Condition(_find(Run.id, of_jobs), lambda _: of_jobs)

    @cached_property
    def in_time(self) -> Condition:
        """The times as a condition."""
        return Condition(_find(Run.id, *self.during), lambda _: and_(true(), *self.during))

    def hold(self, run_id: Any = Run.id, met: Collection[Condition] = ()) -> list[ColumnElement[bool]]:
        """Return what holds for every run that is wanted; that it has ended leads an index past those that wait.

        Parameters
        ----------
        run_id : column by which that is looked up which hangs on a run
        met : conditions that hold already
        """
        found: list[ColumnElement[bool]] = [Run.status == "done", Run.finished_at.is_not(None), *self.during]
        if self.jobs is not None:
            found.append(Run.job_id.in_(self.jobs))
        found += [each.held(run_id) for each in self.conditions if each not in met]
        if self.verdict == UNREVIEWED:
            found.append(not_(exists().where(Review.run_id == run_id)))
        return found

    @property
    def during(self) -> list[ColumnElement[bool]]:
        """What holds for the time at which a run ended."""
        found: list[ColumnElement[bool]] = []
        if self.since:
            found.append(Run.finished_at >= self.since)
        if self.until:
            found.append(Run.finished_at < self.until)
        return found


def _find(run_id: Any, *held: ColumnElement[bool]) -> Rows:
    return select(run_id.label("id")).where(*held)


def _score_fits(metric: MetricRange, run_id: Any) -> ColumnElement[bool]:
    return exists().where(*metric.fits(aliased(Metric), run_id))


def _reviewed(verdict: ColumnElement[bool], run_id: Any) -> ColumnElement[bool]:
    return exists().where(Review.run_id == run_id, verdict)


def _says(word: str, run_id: Any) -> ColumnElement[bool]:
    # Among the few words of one run the index of all words would only mislead; what is put together has none.
    return exists().where(ResultWord.run_id == run_id, *_begins(word, ResultWord.word.concat("")))


def _begins(word: str, column: Any) -> list[ColumnElement[bool]]:
    return [column >= word, column <= word + LAST_LETTER]


def _match(column: InstrumentedAttribute[str], pattern: str) -> ColumnElement[bool]:
    if "*" not in pattern:
        return column == pattern
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(escaped.replace("*", "%"), escape="\\")
