"""Find results by condition and order, in about as many steps among millions as among hundreds.

Two ways: the runs of the rarest condition are gathered by its index and put in order, or the runs are walked in their
order until a page is full. The first costs a look-up for each of those runs. The second, for a page of k, costs about
k / p, where p is the share of runs that meet all conditions, taken as independent. The cheaper one is taken.
"""

import base64
import binascii
import json
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import prod
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, exists, func, intersect, literal, not_, select, text, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from voxelight.models.errors import BadInput
from voxelight.storage.access import find_principal, seeing_everything
from voxelight.storage.conditions import Condition, MetricRange, Rows, Wanted
from voxelight.storage.schema import Dataset, Job, Metric, Run, Subject

_FEW = 0.05  # share of all results, from which on to walk past the others costs less than to gather
GATHERED = 20_000  # runs of a condition that are counted, and at most gathered
# What follows knows how many rows there are where PostgreSQL would guess: no join of it is worth a table read whole.
_LOOK_UP = text(
    "SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), "
    "set_config('jit', 'off', true)"
)
Owner = InstrumentedAttribute[uuid.UUID]


@dataclass(frozen=True)
class Order:
    """What results are sorted by: `time`, `subject`, or the metric of that name and label."""

    by: str = "time"
    metric: MetricRange | None = None
    descending: bool = True


def find_results(
    session: Session, wanted: Wanted, order: Order, limit: int, cursor: str | None = None
) -> tuple[list[uuid.UUID], str | None]:
    """Return the ids of up to `limit` runs in their order, and the cursor for what follows.

    Raises
    ------
    BadInput
        The cursor is none of this order.
    """
    wanted = _narrow(session, wanted)
    places = _Places(wanted, order, cursor)
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_LOOK_UP)
    rows = _find(session, wanted, places, limit + 1)
    following = places.mark(rows[limit - 1]) if len(rows) > limit else None
    return [row[-1] for row in rows[:limit]], following


def list_metric_names(session: Session) -> list[str]:
    """Return the names of all metrics that show, each found by one step in the index."""
    names: list[str] = []
    with seeing_everything(session):
        while True:
            after = select(func.min(Metric.name)).where(Metric.name > (names[-1] if names else ""))
            if (name := session.scalar(after)) is None:
                break
            names.append(name)
    principal = find_principal(session)
    if principal is None or principal.admin:
        return names
    return [name for name in names if session.scalar(_select_jobs_with(name)) is not None]


def _select_jobs_with(name: str) -> Select[uuid.UUID]:
    metric = Metric.__table__.alias()  # of a job that shows: to narrow it too would mean to look at each of them
    of_job = exists(select(metric.c.id).where(metric.c.job_id == Job.id, metric.c.name == name))
    return select(Job.id).where(of_job).limit(1)


def _narrow(session: Session, wanted: Wanted) -> Wanted:
    """Name the projects that show where they hold few of all results, so that those are gathered and not sought."""
    principal = find_principal(session)
    if principal is None or principal.admin:
        return wanted
    stored = select(func.sum(Job.done))
    own = session.scalar(stored) or 0
    with seeing_everything(session):
        there = session.scalar(stored) or 0
    return replace(wanted, projects=frozenset(principal.roles)) if own < _FEW * there else wanted


class _Places:
    """Where a run stands in an order, by columns that end with its id, and where a page begins."""

    def __init__(self, wanted: Wanted, order: Order, cursor: str | None) -> None:
        self.order = order
        self.columns: tuple[InstrumentedAttribute[Any], ...] = (Run.finished_at, Run.id)
        self.query: Rows = select(Run.finished_at, Run.id)
        self.run_id: Any = Run.id
        self.last: list[ColumnElement[bool]] = []  # what is looked at once everything else holds
        if order.by == "subject":
            self.columns = (Subject.label, Subject.id, Run.finished_at, Run.id)
            self.query = select(*self.columns).join_from(Subject, Run, Run.subject_id == Subject.id)
            if wanted.dataset:
                self.query = self.query.join(Subject.dataset).where(Dataset.name == wanted.dataset)
        elif order.metric is not None:
            self.columns = (Metric.value, Metric.run_id)
            self.run_id = Metric.run_id  # known before the run itself is read
            self.query = select(*self.columns).join_from(Metric, Run, Run.id == Metric.run_id)
            self.query = self.query.where(*order.metric.fits())
            self.last = [_leads(order.metric, order.descending)]
        self._name = json.dumps([order.by, order.descending, order.metric and [order.metric.name, order.metric.label]])
        self._start = self._parse(cursor) if cursor else None

    def choose(self, wanted: Wanted, *also: ColumnElement[bool], met: Collection[Condition] = ()) -> Rows:
        """Return the places of the runs that are wanted and follow the page before."""
        sorted_by = [each for each in wanted.conditions if each.metric is not None and each.metric == self.order.metric]
        held = wanted.hold(self.run_id, [*met, *sorted_by])
        return self.query.where(*also, *held, *self.after_cursor(), *self.last)

    def after_cursor(self) -> list[ColumnElement[bool]]:
        """Return what holds for the runs that follow the page before."""
        if self._start is None:
            return []
        start = [literal(value, column.type) for column, value in zip(self.columns, self._start, strict=True)]
        here, there, first = tuple_(*self.columns), tuple_(*start), self.columns[0]
        # The first column says it once more by itself, since an index may not cover the rest.
        if self.order.descending:
            return [first <= start[0], here < there]
        return [first >= start[0], here > there]

    def sort(self, columns: Iterable[Any]) -> list[ColumnElement[Any]]:
        """Return columns with their direction."""
        return [column.desc() if self.order.descending else column.asc() for column in columns]

    def mark(self, row: Row[Any]) -> str:
        """Return the cursor of the place after a row."""
        values = [value if isinstance(value, str | float) else _write(value) for value in row]
        return base64.urlsafe_b64encode(json.dumps([self._name, *values]).encode()).decode()

    def _parse(self, cursor: str) -> list[Any]:
        try:
            name, *values = json.loads(base64.urlsafe_b64decode(cursor.encode()))
            same = name == self._name
            start = [_read(value, column) for value, column in zip(values, self.columns, strict=True)] if same else []
        except (ValueError, TypeError, OverflowError, binascii.Error):
            raise BadInput(
                f"the cursor {cursor[:40]!r}", "next_cursor of an earlier page", "Start again without a cursor."
            ) from None
        if not same:
            raise BadInput(
                "a cursor of another order", "next_cursor of an earlier page", "Start again without a cursor."
            )
        return start


def _find(session: Session, wanted: Wanted, places: _Places, count: int) -> Sequence[Row[Any]]:
    owned = [(Run.job_id, wanted.jobs)] if wanted.jobs is not None else []
    if wanted.scans is not None:  # of the subjects that are wanted
        owned.append((Run.scan_id, wanted.scans))
    elif wanted.subjects is not None:
        owned.append((Run.subject_id, wanted.subjects))
    alone = len(owned) == 1 and len(wanted.conditions) == (wanted.jobs is None)
    if places.order.by == "time" and alone:
        return _merge(session, wanted, places, owned[0], count)
    with seeing_everything(session):  # which only weighs how to look
        few = _find_few(session, wanted, places.order, count)
    if few:
        return _gather(session, wanted, places, few, count)
    if places.order.by == "time" and owned:
        return _merge(session, wanted, places, owned[0], count)
    if places.order.by == "subject":
        return _walk_subjects(session, wanted, places, count)
    query = places.choose(wanted)
    return session.execute(query.order_by(*places.sort(places.columns)).limit(count)).all()


def _find_few(session: Session, wanted: Wanted, order: Order, count: int) -> list[Condition]:
    """Return the conditions that few runs meet, if to gather these costs less than to walk."""
    # A walk stays by itself within the times, or within the range, by which it is sorted.
    asked = [each for each in wanted.conditions if each.metric is None or each.metric != order.metric]
    if order.by != "time" and wanted.during:
        asked.append(wanted.in_time)
    if not asked and wanted.jobs is None:
        return []
    stored = max(1, session.scalar(select(func.sum(Job.done))) or 0)
    m = len(asked) + (wanted.jobs is not None)
    # Where m conditions each hold for c runs, c look-ups cost less than k (n / c)^m as long as c is below this.
    most = min(GATHERED, round((count * stored**m) ** (1 / (m + 1))))
    sizes = [session.scalar(_count(each.found_by, most + 1)) or 0 for each in asked]
    few = [each for each, size in zip(asked, sizes, strict=True) if size <= most]
    if wanted.jobs is not None:
        of_jobs = session.scalar(select(func.sum(Job.done)).where(Job.id.in_(wanted.jobs))) or 0
        if of_jobs < min(sizes, default=most + 1):
            few = [wanted.in_jobs]
        sizes.append(of_jobs)
    share = prod(min(1.0, max(size, 1) / stored) for size in sizes)
    return few if min(sizes) <= min(most, count / share) else []


def _count(rows: Rows, most: int) -> Select[int]:
    return select(func.count()).select_from(rows.limit(most).subquery())


def _gather(
    session: Session, wanted: Wanted, places: _Places, conditions: list[Condition], count: int
) -> Sequence[Row[Any]]:
    """Collect the runs of some conditions, then put them in order; neither step may be taken for a walk."""
    rows = [each.found_by for each in conditions]
    few = (intersect(*rows) if len(rows) > 1 else rows[0]).cte("few").prefix_with("MATERIALIZED")
    chosen = places.choose(wanted, Run.id.in_(select(few.c.id)), met=conditions)
    ready = chosen.cte("ready").prefix_with("MATERIALIZED")
    return session.execute(select(*ready.c).order_by(*places.sort(ready.c)).limit(count)).all()


def _merge(
    session: Session,
    wanted: Wanted,
    places: _Places,
    owners: tuple[Owner, Select[uuid.UUID]],
    count: int,
) -> Sequence[Row[Any]]:
    """Read the newest runs of the owner, a job for one, that has the newest, then of the next ones.

    It ends where the page is newer than all that the remaining owners have. The owners are opened in twos, fours,
    eights, since those of an owner may fail the other conditions.
    """
    column, found = owners
    descending, after = places.order.descending, places.after_cursor()
    edge_of = func.max if descending else func.min
    owner = found.subquery("owner")
    edge = select(edge_of(Run.finished_at)).where(column == owner.c.id, *after[:1], *wanted.during).scalar_subquery()
    edges = select(owner.c.id, edge.label("edge")).subquery("edges")
    query = select(edges).where(edges.c.edge.is_not(None)).order_by(*places.sort([edges.c.edge]))
    waiting = session.execute(query).all()
    page: list[Row[Any]] = []
    size = 1
    while waiting:
        if len(page) == count and (page[-1][0] > waiting[0].edge if descending else page[-1][0] < waiting[0].edge):
            break
        opened, waiting, size = [row.id for row in waiting[:size]], waiting[size:], 2 * size
        these = column == opened[0] if len(opened) == 1 else column.in_(opened)
        rows = places.choose(wanted, these).order_by(*places.sort(places.columns)).limit(count)
        page = sorted([*page, *session.execute(rows).all()], key=tuple, reverse=descending)[:count]
    return page


def _walk_subjects(session: Session, wanted: Wanted, places: _Places, count: int) -> Sequence[Row[Any]]:
    """Read the runs of one subject after the other, of the next two, of the next four, until a page is full."""
    held = [] if wanted.subjects is None else [Subject.id.in_(wanted.subjects)]
    subjects = select(Subject.id).where(*held, *places.after_cursor()[:1])
    if wanted.dataset:
        subjects = subjects.join(Subject.dataset).where(Dataset.name == wanted.dataset)
    subjects = subjects.order_by(*places.sort(places.columns[:2]))
    page: list[Row[Any]] = []
    size, passed = 1, 0
    while len(page) < count:
        opened = session.scalars(subjects.limit(size).offset(passed)).all()
        if not opened:
            break
        passed, size = passed + size, 2 * size
        here = (
            (Run.subject_id == opened[0], Subject.id == opened[0])
            if len(opened) == 1
            else (Run.subject_id.in_(opened), Subject.id.in_(opened))
        )
        rows = places.choose(wanted, *here).order_by(*places.sort(places.columns)).limit(count - len(page))
        page += session.execute(rows).all()
    return page


def _leads(metric: MetricRange, descending: bool) -> ColumnElement[bool]:
    """Whether no other value of the run, within the range, stands before this one: a run has one place."""
    other = aliased(Metric)
    value = other.value + 0.0
    before = value > Metric.value if descending else value < Metric.value
    tied = and_(value == Metric.value, other.label < Metric.label)
    return not_(exists().where(*metric.fits(other, Run.id), before | tied))


def _write(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _read(value: Any, column: InstrumentedAttribute[Any]) -> Any:
    if column is Run.finished_at:
        return datetime.fromisoformat(value).astimezone(UTC)
    return column.type.python_type(value)
