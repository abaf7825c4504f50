"""Conditions on results, as what a database can ask."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, not_, select
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


@dataclass(frozen=True)
class Wanted:
    """Which results: every condition that is set must hold; `scan` is a name, or a pattern with `*`."""

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
    def sources(self) -> list[Rows]:
        """Runs by one condition each, all that an index finds without looking at other runs; times are left out."""
        found: list[Rows] = []
        if self.scans is not None:
            found.append(select(Run.id.label("id")).where(Run.scan_id.in_(self.scans)))
        elif self.subjects is not None:
            found.append(select(Run.id.label("id")).where(Run.subject_id.in_(self.subjects)))
        found += [select(Metric.run_id.label("id")).where(*metric.fits()) for metric in self.metrics]
        if self.verdict not in (None, UNREVIEWED):
            found.append(select(Review.run_id.label("id")).where(Review.verdict == self.verdict))
        found += [select(ResultWord.run_id.label("id")).where(*_begins(word)) for word in self.words]
        return found

    def hold(self, run_id: Any = Run.id) -> list[ColumnElement[bool]]:
        """Return what holds for every run that is wanted; what hangs on it is looked up by the column of its id."""
        found: list[ColumnElement[bool]] = [Run.status == "done", *self.during]
        found += [
            owner.in_(owners)
            for owner, owners in ((Run.job_id, self.jobs), (Run.subject_id, self.subjects))
            if owners is not None
        ]
        if self.scans is not None:
            found.append(self.scans.where(Scan.id == Run.scan_id).correlate(Run).exists())
        scores = [(aliased(Metric), metric) for metric in self.metrics]
        found += [exists().where(*metric.fits(score, run_id)) for score, metric in scores]
        if self.verdict == UNREVIEWED:
            found.append(not_(exists().where(Review.run_id == run_id)))
        elif self.verdict is not None:
            found.append(exists().where(Review.run_id == run_id, Review.verdict == self.verdict))
        # Among the few words of one run the index of all words would only mislead; what is put together has none.
        own = ResultWord.word.concat("")
        found += [exists().where(ResultWord.run_id == run_id, *_begins(word, own)) for word in self.words]
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


def _begins(word: str, column: Any = ResultWord.word) -> list[ColumnElement[bool]]:
    return [column >= word, column <= word + LAST_LETTER]


def _match(column: InstrumentedAttribute[str], pattern: str) -> ColumnElement[bool]:
    if "*" not in pattern:
        return column == pattern
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(escaped.replace("*", "%"), escape="\\")
